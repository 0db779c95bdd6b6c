"""machinectl(1), as an operator uses it: what is listed and shown, a shell, a login prompt, reboot, poweroff.

`shell` and `login` need a terminal, so they are driven with pexpect; the others need none.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pexpect
from pexpect.fdpexpect import fdspawn
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from pipeline.command import output
from pipeline.errors import CheckFailed
from pipeline.machine.unit import Machine, leader


class _NotYet(Exception):
    """Something that comes by itself is not there yet."""


def listed(machine: Machine) -> None:
    """Asserts that `machinectl list` has the machine, as a container of systemd-nspawn."""
    rows = json.loads(output(["machinectl", "list", "--output=json"], log=machine.log).stdout or "[]")
    mine = [row for row in rows if row["machine"] == machine.name]
    if not mine:
        names = ", ".join(row["machine"] for row in rows) or "none"
        raise CheckFailed(f"machinectl list does not have {machine.name}; it has {names}")
    if (mine[0]["class"], mine[0]["service"]) != ("container", "systemd-nspawn"):
        raise CheckFailed(f"machinectl lists {machine.name} as {mine[0]['class']} of {mine[0]['service']}")


def shown(machine: Machine) -> None:
    """Asserts that `machinectl show` says running, from the directory that was booted."""
    text = output(["machinectl", "show", machine.name], log=machine.log).stdout
    facts = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    wanted = {"State": "running", "RootDirectory": str(machine.directory), "Class": "container", "Unit": machine.unit}
    wrong = [f"{key}={facts.get(key)} (expected {value})" for key, value in wanted.items() if facts.get(key) != value]
    if wrong:
        raise CheckFailed(f"machinectl show {machine.name}: {', '.join(wrong)}")


def status(machine: Machine) -> None:
    """Asserts that `machinectl status` knows the operating system, as the machine's own os-release(5) has it."""
    expected = _pretty_name(machine)
    text = output(["machinectl", "status", "--no-pager", "--lines=0", machine.name], log=machine.log).stdout
    found = re.search(r"^\s*OS: (.+)$", text, re.MULTILINE)
    if found is None:
        raise CheckFailed(
            f"machinectl status {machine.name} does not know the operating system",
            hint="/etc/os-release of the image has to be there and name one",
        )
    if found[1].strip() != expected:
        raise CheckFailed(f"machinectl status says OS: {found[1].strip()}, and /etc/os-release says {expected}")


def _pretty_name(machine: Machine) -> str:
    # os-release(5): the file in /etc comes first, and is most often a relative link to the other.
    files = (machine.directory / name for name in ("etc/os-release", "usr/lib/os-release"))
    text = next((file.read_text() for file in files if file.is_file()), "")
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return "".join(shlex.split(values.get("PRETTY_NAME") or values.get("NAME") or "Linux"))


def shell(machine: Machine) -> None:
    """Asserts that `machinectl shell` gives a shell of root on a terminal that obeys, and ends when told to."""
    with _terminal(machine, "shell", machine.name, "/bin/sh") as terminal:
        terminal.expect(r"[#$] ", "no prompt came")
        terminal.send("PS1=; stty -echo; echo tty=$(tty) uid=$(id -u) sum=$((40 + 2))")
        terminal.expect(r"tty=/dev/\S+ uid=0 sum=42", "the shell did not answer as root on a terminal")
        terminal.send("exit")
        terminal.expect(pexpect.EOF, "the shell did not end on `exit`")


def login(machine: Machine) -> None:
    """Asserts that `machinectl login` comes to a login prompt that asks for a name and then for a password."""
    with _terminal(machine, "login", machine.name) as terminal:
        terminal.expect(r"login: ", "no login prompt came", hint="is container-getty@.service there, and login(1)?")
        terminal.send("nobody-of-this-name")
        terminal.expect(r"[Pp]assword: ", "no question for a password came")


def reboot(machine: Machine) -> None:
    """Asserts that `machinectl reboot` is obeyed: the machine goes, comes back with another boot ID, and is healthy."""
    before, restarts = _boot_id(machine), machine.state().restarts
    output(["machinectl", "reboot", machine.name], log=machine.log)
    limit = (machine.boot.timeout + 30) * machine.slowness
    try:
        for attempt in _until(limit):
            with attempt:
                state = machine.state()
                if state.over:
                    error = CheckFailed(
                        f"machinectl reboot: the machine went, and did not come back; {_console(machine)}",
                        hint="does its ctrl-alt-del.target lead to reboot.target?",
                    )
                    error.blocks = True
                    raise error
                if state.restarts == restarts or not state.running:
                    raise _NotYet
    except RetryError:
        raise CheckFailed(
            f"machinectl reboot: the machine did not come back within {limit:.0f} s; {_console(machine)}"
        ) from None
    machine.judge()
    if _boot_id(machine) == before:
        raise CheckFailed("machinectl reboot: the boot ID is the same as before, so the machine did not reboot")


def poweroff(machine: Machine, seconds: float = 60.0) -> None:
    """Asserts that `machinectl poweroff` is obeyed: the machine shuts down by itself and nothing of it is left.

    `seconds` are what it has for that on a native host.
    """
    restarts = machine.state().restarts
    output(["machinectl", "poweroff", machine.name], log=machine.log)
    limit = seconds * machine.slowness
    try:
        for attempt in _until(limit):
            with attempt:
                state = machine.state()
                if state.restarts > restarts:
                    raise CheckFailed(
                        f"machinectl poweroff: the machine booted again instead; {_console(machine)}",
                        hint="does its poweroff.target power off?",
                    )
                if not state.over:
                    raise _NotYet
    except RetryError:
        raise CheckFailed(
            f"machinectl poweroff: the machine still runs after {limit:.0f} s; {_console(machine)}"
        ) from None
    if output(["machinectl", "show", machine.name], check=False).status == 0:
        raise CheckFailed(f"machinectl still knows {machine.name} after it was powered off")


def _console(machine: Machine) -> str:
    return "\n".join(["its console ends:", *(f"    {line}" for line in machine.console(12))])


def _boot_id(machine: Machine) -> str:
    """The machine's own boot ID: nspawn gives each boot of a container another one."""
    return Path(f"/proc/{leader(machine.name)}/root/proc/sys/kernel/random/boot_id").read_text().strip()


def _until(limit: float) -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(_NotYet),
        wait=wait_exponential(multiplier=0.1, max=1),
        stop=stop_after_delay(limit),
    )


@contextmanager
def _terminal(machine: Machine, *words: str) -> Iterator[_Terminal]:
    """machinectl with these words on a terminal, while the block runs.

    Not by pexpect.spawn(): its os.forkpty() copies this process with its threads, which Python warns of, and a Ctrl-C
    that comes within it is printed and forgotten. setsid(1) makes the terminal machinectl's own.
    """
    argv = ["machinectl", *words]
    machine.log.command(argv)
    ours, theirs = os.openpty()
    with ExitStack() as stack:
        stack.callback(os.close, ours)
        try:
            termios.tcsetwinsize(theirs, (24, 200))
            process = subprocess.Popen(["setsid", "--ctty", *argv], stdin=theirs, stdout=theirs, stderr=theirs)
        finally:
            os.close(theirs)
        stack.callback(process.wait, 20 * machine.slowness)
        stack.callback(process.kill)
        spawned = fdspawn(ours, timeout=20 * machine.slowness, encoding="utf-8", codec_errors="replace")
        yield _Terminal(argv, spawned)


class _Terminal:
    """machinectl on a terminal of its own; every failure shows what the terminal had."""

    def __init__(self, argv: list[str], child: fdspawn[str]) -> None:
        self._argv = argv
        self._child = child

    def send(self, line: str) -> None:
        self._child.sendline(line)

    def expect(self, pattern: str | type[pexpect.EOF], otherwise: str, *, hint: str | None = None) -> None:
        try:
            self._child.expect(pattern)
        except (pexpect.TIMEOUT, pexpect.EOF) as error:
            seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", str(self._child.before or "")).strip()
            lines = "\n".join(f"    {line}" for line in seen.splitlines()[-10:])
            raise CheckFailed(
                f"{' '.join(self._argv)}: {otherwise}; the terminal had:\n{lines or '    nothing'}", hint=hint
            ) from error
