"""Running a command: logged as a line one could paste, limited in time, stopped with all its children.

Knows nothing of images, ZFS or machines.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pipeline.errors import CommandFailed
from pipeline.masking import masked

TAIL_LINES = 25
"""How many last lines of a failed command's output its error shows."""

_LEASH = ("setpriv", "--pdeathsig")
"""What starts a command so that it gets a signal when we die, even if we are killed: setpriv(1), of util-linux."""

_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL for a command that has to be stopped."""


class BuildLog:
    """The log of one build: every command as a line one could paste, and all that it printed.

    `on_line` is called with each line (without its end), for live progress. `path` is None for a log that is
    kept nowhere.
    """

    def __init__(self, path: Path | None = None, on_line: Callable[[str], None] | None = None) -> None:
        self.path = path
        self.on_line = on_line
        self._file: IO[str] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8", errors="replace", buffering=1)

    def line(self, text: str) -> None:
        """Writes one line of output, without what is hidden (`pipeline.masking`)."""
        text = masked(text)
        if self._file is not None:
            self._file.write(text + "\n")
        if self.on_line is not None and text.strip():
            self.on_line(text)

    def command(self, argv: Sequence[str]) -> None:
        """Writes a command as it would be typed."""
        self.line(f"$ {shlex.join(argv)}")

    def took(self, seconds: float) -> None:
        """Writes how long a command took, as a comment, if that is worth a line."""
        if self._file is not None and seconds >= 1.0:
            self._file.write(f"# {seconds:.1f} s\n")

    def idle(self) -> None:
        """Called about twice a second while a command runs that prints nothing."""

    def heading(self, text: str) -> None:
        """Writes a line that parts one stage from the next."""
        if self._file is not None:
            self._file.write(f"\n### {text}  [{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}]\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


SILENT = BuildLog()
"""A log that is kept nowhere and shown to nobody."""


@dataclass(frozen=True)
class Result:
    """What a command left: its exit status and, where it was captured, its standard output."""

    status: int
    stdout: str = ""
    stderr: str = ""


def run(
    argv: Sequence[str],
    *,
    log: BuildLog = SILENT,
    timeout: float,
    check: bool = True,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdout: IO[bytes] | int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    hint: str | None = None,
    orphaned: str = "KILL",
    hopeless: Sequence[str] = (),
) -> Result:
    """Runs a command whose output is for people: line by line into `log`.

    `timeout` is in seconds. With `stdout` (a file), only its standard error goes to the log. Raises
    `CommandFailed` when the command takes too long or, with `check`, ends with another status than 0. Whatever
    ends this function also ends the command and its children; if we are killed, it gets the signal `orphaned`.
    A line with one of the texts in `hopeless` ends it at once, where it would go on for minutes and yet fail.
    """
    log.command(argv)
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    path = str(log.path) if log.path is not None else None
    started = time.monotonic()
    with _process(argv, stdin=stdin, stdout=stdout, env=env, cwd=cwd, orphaned=orphaned) as process:
        pipe = process.stdout if stdout is None else process.stderr
        assert pipe is not None
        for line in _lines(pipe, process, timeout, log.idle):
            if line is None:
                raise CommandFailed(argv, None, "\n".join(tail), log=path, limit=timeout, hint=hint)
            line = masked(line)
            tail.append(line)
            log.line(line)
            if any(text in line for text in hopeless):
                stop(process)
                break
        status = process.wait()
    log.took(time.monotonic() - started)
    if check and status != 0:
        raise CommandFailed(argv, status, "\n".join(tail), log=path, hint=hint)
    return Result(status, "\n".join(tail))


def output(
    argv: Sequence[str],
    *,
    log: BuildLog = SILENT,
    timeout: float = 60.0,
    check: bool = True,
    input: str | None = None,
    hint: str | None = None,
) -> Result:
    """Runs a command whose output is for us to read, and returns it; the log gets the command only.

    `timeout` is in seconds. Raises `CommandFailed` as `run` does.
    """
    log.command(argv)
    path = str(log.path) if log.path is not None else None
    started = time.monotonic()
    try:
        done = subprocess.run(
            argv, input=input, capture_output=True, text=True, errors="replace", timeout=timeout,
            stdin=subprocess.DEVNULL if input is None else None,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise _missing(argv) from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(argv, None, "", log=path, limit=timeout, hint=hint) from error
    log.took(time.monotonic() - started)
    if check and done.returncode != 0:
        tail = masked("\n".join((done.stderr or done.stdout).splitlines()[-TAIL_LINES:]))
        raise CommandFailed(argv, done.returncode, tail, log=path, hint=hint)
    return Result(done.returncode, done.stdout, done.stderr)


def stop(process: subprocess.Popen[bytes], *, grace: float = _GRACE) -> None:
    """Ends a process started as leader of its own session, with all of its group: SIGTERM, then SIGKILL."""
    for sign, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)


def _missing(argv: Sequence[str]) -> CommandFailed:
    return CommandFailed(argv, 127, f"{argv[0]}: command not found")


@contextlib.contextmanager
def _process(
    argv: Sequence[str],
    *,
    stdin: IO[bytes] | int,
    stdout: IO[bytes] | int | None,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    orphaned: str,
) -> Iterator[subprocess.Popen[bytes]]:
    if shutil.which(argv[0], path=env.get("PATH") if env is not None else None) is None:
        raise _missing(argv)
    try:
        process = subprocess.Popen(
            [*_LEASH, orphaned, "--", *argv],
            stdin=stdin,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.STDOUT if stdout is None else subprocess.PIPE,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise _missing(argv) from error
    try:
        yield process
    finally:
        stop(process)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _lines(
    pipe: IO[bytes], process: subprocess.Popen[bytes], timeout: float, idle: Callable[[], None]
) -> Iterator[str | None]:
    """The lines a process writes, carriage returns counted as ends of lines; None when its time is over.

    The pipe is read until its end, or until the process is gone and nothing more comes: a daemon that a package's
    script left behind keeps the pipe open, and must not keep the build waiting.
    """
    deadline = time.monotonic() + timeout
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                yield None
                return
            if not selector.select(min(left, 0.5)):
                if process.poll() is not None:
                    break
                idle()
                continue
            chunk = os.read(pipe.fileno(), 65536)
            if not chunk:
                break
            *lines, rest = (rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")
