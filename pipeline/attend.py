"""Somebody at the terminal enters a machine while it runs: in the middle of a session, which waits.

The process that made the machine asks (`attend`); the one that owns the terminal shows (`serve`), and gives it back
when the shell is left, or Enter is pressed.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline import channel
from pipeline.progress import Progress, report

KIND = "attend"
"""The kind of the message that asks for it."""

_TERMINAL = Path("/dev/tty")
_one_at_a_time = threading.Lock()


def attend(machine: str, why: str, *, shell: bool) -> None:
    """Waits for somebody to look at a machine: in a `shell` that is opened for them, or from another terminal.

    `why` says in a few words what it is that they would look at.
    """
    message = {"kind": KIND, "machine": machine, "why": why, "shell": shell}
    if channel.available():
        channel.ask(message)
    else:
        serve(message)


def serve(
    message: channel.Message,
    there: Callable[[Sequence[str]], list[str]] = list,
    entering: str = "",
) -> channel.Message:
    """The side of the process that owns the terminal; does nothing where there is none.

    `there` makes of a command one that runs where the machine is, with a terminal; `entering` is what one types before
    such a command in another terminal.
    """
    machine, why = message["machine"], message["why"]
    argv = ["machinectl", "shell", machine]
    with _one_at_a_time:
        report(Progress(machine, KIND, "pause"))
        try:
            with _TERMINAL.open("r+b", buffering=0) as terminal:
                if message["shell"]:
                    _tell(terminal.write, f"{why}: a shell in {machine}; leave it to go on.")
                    subprocess.run(there(argv), stdin=terminal, stdout=terminal, stderr=terminal, check=False)
                else:
                    _tell(terminal.write, f"{why}: {machine} runs on. To enter it, in another terminal:",
                          f"    {entering}{shlex.join(argv)}", "Enter ends it.")  # fmt: skip
                    terminal.readline()
        except OSError:  # nobody is there
            pass
        finally:
            report(Progress(machine, KIND, "resume"))
    return {}


def _tell(write: Callable[[bytes], object], *lines: str) -> None:
    write("".join(f"\r\n{line}" for line in lines).encode() + b"\r\n")
