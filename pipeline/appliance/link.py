"""The ssh line to the guest: key and host key from the appliance's own directory, nothing of the user's settings."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.appliance.namespace import leashed


@dataclass(frozen=True)
class Link:
    """How the guest is reached: a port of 127.0.0.1, the keys' directory, and a socket of a standing connection."""

    port: int
    keys: Path
    control: Path | None

    def argv(
        self, argv: Sequence[str], *, forward: Mapping[str, Path] | None = None, tty: bool = False, shared: bool = True
    ) -> list[str]:
        """The local command that runs `argv` in the guest.

        `forward` maps Unix sockets in the guest to ones outside; `tty` gives it a terminal.
        """
        use_control = shared and self.control is not None and not forward
        options = [
            *self._options(),
            *(["-o", f"ControlPath={self.control}"] if use_control else ["-o", "ControlPath=none"]),
        ]
        for inner, outer in (forward or {}).items():
            options += ["-R", f"{inner}:{outer}", "-o", "ExitOnForwardFailure=yes"]
        return ["ssh", *options, "-tt" if tty else "-T", "root@127.0.0.1", "--", shlex.join(argv)]

    def script(self, text: str, *, limit: float) -> subprocess.CompletedProcess[str]:
        """Runs shell text in the guest; it has `limit` seconds."""
        return subprocess.run(self.argv(["sh", "-s"]), input=text, capture_output=True, text=True, timeout=limit)

    def hold(self) -> subprocess.Popen[bytes] | None:
        """Opens the standing connection over which later commands start at once; None where there can be none."""
        if self.control is None:
            return None
        self.control.unlink(missing_ok=True)
        options = ["-o", "ControlMaster=yes", "-o", f"ControlPath={self.control}", "-N"]
        return subprocess.Popen(
            leashed(["ssh", *self._options(), *options, "root@127.0.0.1"]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _options(self) -> list[str]:
        settings = {
            "User": "root", "Port": self.port, "IdentityFile": self.keys / "user", "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.keys / "known_hosts", "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": "goldspawn-appliance", "StrictHostKeyChecking": "yes", "BatchMode": "yes",
            "LogLevel": "ERROR", "ConnectTimeout": 20, "ServerAliveInterval": 30, "ServerAliveCountMax": 6,
            "EscapeChar": "none", "Compression": "no", "IPQoS": "none", "SendEnv": "COLORTERM",
        }  # fmt: skip
        return ["-F", "none", *(part for name, value in settings.items() for part in ("-o", f'{name}="{value}"'))]


def joining(control: Path, argv: Sequence[str], *, tty: bool) -> list[str]:
    """The local command that runs `argv` in a guest that another process holds, over its standing connection."""
    options = ["-F", "none", "-o", f"ControlPath={control}", "-o", "ControlMaster=no", "-o", "LogLevel=ERROR"]
    options += ["-o", "EscapeChar=none", "-o", "BatchMode=yes"]
    return ["ssh", *options, "-tt" if tty else "-T", "root@127.0.0.1", "--", shlex.join(argv)]


def control_path(folder: Path) -> Path | None:
    """A place for the standing connection's socket in `folder`, or None where its name would be too long.

    sun_path has 108 bytes (unix(7)), and ssh appends 17 while it makes the socket.
    """
    path = folder / "ssh"
    return path if len(os.fsencode(path)) < 88 and "%" not in str(path) else None
