"""Sessions that are forked from an interpreter which has imported pytest and goldspawn already.

In the emulated appliance a session imports for five seconds before it does anything, and the tests run a hundred of
them. Each has a process, a session and a process group of its own, the arguments, environment and directory that it is
given, and nothing on its standard input. But they share the interpreter's seed of hashes, and what is read from the
environment by an import: a session for which that matters is started by itself, as all are outside of the appliance.

`Warm` is the side of the tests; run as a script, this file is that interpreter.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_IMPORTED = ("pytest", "pipeline.plugin", "stages", "testinfra.plugin", "xdist.plugin", "xdist.looponfail")
"""What each session imports; pytest says of plugins that were there before it that it cannot rewrite their asserts."""

_UNSAID = "-Wignore::pytest.PytestAssertRewriteWarning"


class Child:
    """A session that runs: what the tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, stdout: int, told: socket.socket) -> None:
        self.pid = pid
        self.stdout = os.fdopen(stdout, encoding="utf-8", errors="replace")
        self.returncode: int | None = None
        self._told = told

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                self.returncode = _number(self._told)
            except (TimeoutError, BlockingIOError) as error:
                raise subprocess.TimeoutExpired(f"session {self.pid}", timeout or 0.0) from error
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, sign: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sign)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float) -> tuple[str, None]:
        """All that it still prints. Raises `subprocess.TimeoutExpired` when it, or what it left, goes on for longer."""
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.append(self.stdout.read()), daemon=True)
        reader.start()
        reader.join(timeout)
        if reader.is_alive():
            raise subprocess.TimeoutExpired(f"session {self.pid}", timeout)
        self.wait(60)
        self.stdout.close()
        self._told.close()
        return said[0], None


def _number(told: socket.socket) -> int:
    """What the keeper of a session tells: its process, and then its exit status."""
    said = told.recv(100)
    if not said:
        raise RuntimeError("the keeper of a session is gone, and has not told how it ended")
    return int(said)


class Warm:
    """The interpreter that sessions are forked from; it ends with the process that made it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], env=environment, pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def start(self, argv: Sequence[str], environment: Mapping[str, str], folder: Path) -> Child:
        """Starts `python -m pytest` with these arguments."""
        output, theirs = os.pipe()
        told, tells = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps([list(argv), dict(environment), str(folder)]).encode()
        try:
            socket.send_fds(self._socket, [request], [theirs, tells.fileno()])
        finally:
            os.close(theirs)
            tells.close()
        told.settimeout(120)  # the first session waits until all is imported
        return Child(_number(told), output, told)


def _serve(requests: socket.socket) -> None:
    """Forks a keeper for each request, which forks the session and tells how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a keeper
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 2)
        if not request:
            return
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            _keep(request, *descriptors)
            return
        for one in descriptors:
            os.close(one)


def _keep(request: bytes, output: int, tells: int) -> None:
    pid = os.fork()
    if pid == 0:
        _become(*json.loads(request), output)
        return
    os.close(output)
    os.write(tells, str(pid).encode())
    _, status = os.waitpid(pid, 0)
    os.write(tells, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(argv: list[str], environment: dict[str, str], folder: str, output: int) -> None:
    """Makes this process the session, and runs it."""
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, 1024)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[0] = folder
    sys.argv = ["pytest", *argv, _UNSAID]
    runpy.run_module("pytest", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for name in _IMPORTED:
        importlib.import_module(name)
    _serve(socket.socket(fileno=int(sys.argv[1])))
