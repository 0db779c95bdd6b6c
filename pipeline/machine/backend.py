"""pytest-testinfra's way to a machine: each command is a transient unit in it, started by systemd-run(1)."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import subprocess
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from pipeline.errors import CommandFailed
from pipeline.machine import portage_packages
from pipeline.machine.unit import leader

_SOON = 0.3
"""Seconds in which most commands end; no machine goes and comes back in them."""

_GRACE = 5.0
"""Seconds that systemd-run has to say what it knows after the machine ended."""

_KILLED = 255
"""The exit status of a command of which systemd-run cannot tell any more: that of ssh(1) whose connection is gone."""


class NspawnBackend(BaseBackend):  # type: ignore[misc,unused-ignore]
    """Runs commands in a registered machine; output, error output and exit status come back as they are.

    Where the machine ends before the command does, the exit status is 255, if systemd-run knows no better.
    """

    NAME = "nspawn"

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.name = name
        super().__init__(name, *args, **kwargs)

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        # --collect: a command that fails must not leave a failed unit behind, which would make the machine degraded.
        # --uid: with a user a unit has HOME and the like, as a login has.
        argv = [
            "systemd-run", f"--machine={self.name}", "--quiet", "--collect", "--wait", "--pipe", "--service-type=exec",
            "--uid=root", "--", "/bin/sh", "-c",
            # systemd puts variables of its own in the place of ${NAME} (systemd.service(5), command lines).
            self.get_command(command, *args).replace("$", "$$"),
        ]  # fmt: skip
        silent, pipe = subprocess.DEVNULL, subprocess.PIPE
        with subprocess.Popen(argv, stdin=silent, stdout=pipe, stderr=pipe) as process:
            stdout, stderr = _ended(process, self.name)
        status = process.returncode if process.returncode >= 0 else _KILLED
        return self.result(status, self.encode(shlex.join(argv)), stdout, stderr)


def _ended(process: subprocess.Popen[bytes], machine: str) -> tuple[bytes, bytes]:
    """What systemd-run printed, once it ended; soon after its machine did it is killed, for it may wait on (257)."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.communicate(timeout=_SOON)
    with contextlib.ExitStack() as stack:
        watched = []
        with contextlib.suppress(CommandFailed, ProcessLookupError):  # it is gone already
            watched.append(os.pidfd_open(leader(machine)))
            stack.callback(os.close, watched[0])
        while True:
            over = not watched or bool(select.select(watched, [], [], 0)[0])
            try:
                return process.communicate(timeout=_GRACE if over else 1.0)
            except subprocess.TimeoutExpired:
                if over:
                    process.kill()
                    stdout, stderr = process.communicate()
                    return stdout, stderr + f"{machine} ended while this ran\n".encode()


portage_packages.extend()


def host(name: str) -> Host:
    """The machine `name` as a testinfra `Host`: `host("web1").service("nginx").is_running`."""
    return Host(NspawnBackend(name))
