"""Directories of the outer machine in the guest: by virtiofs, or, where there is no daemon for it, by copies.

All shares travel in one tree: `files/serve.py` gathers them in a mount namespace, read-only ones read-only already
there, and becomes the daemon. The daemon's socket has no name by the time it runs, so nobody else can connect to it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.appliance import namespace, recipe
from pipeline.errors import InputError

NO_VIRTIOFS = "GOLDSPAWN_NO_VIRTIOFSD"
"""Set in the environment, shares are copied even where there is a daemon: for tests, and against a broken one."""

_DAEMONS = (
    Path("/usr/lib/qemu/virtiofsd"),
    Path("/usr/libexec/virtiofsd"),
    Path("/usr/lib/virtiofsd"),
    Path("/usr/lib/virtiofsd/virtiofsd"),
)


@dataclass(frozen=True)
class Share:
    """A directory (or file) that the guest sees at the same absolute path."""

    path: Path
    writable: bool


def plan(shares: Sequence[Share]) -> list[Share]:
    """The shares in the order in which they have to be mounted: outer ones first, each path once.

    Raises `InputError` for a path that is not absolute or not there, or that no guest can have.
    """
    by_path: dict[Path, Share] = {}
    for share in shares:
        path = Path(os.path.normpath(share.path))
        if not path.is_absolute() or path == Path("/") or "\n" in str(path):
            raise InputError(f"cannot share {share.path} with the appliance: expected an absolute path below /")
        if not path.exists():
            raise InputError(f"cannot share {path} with the appliance: it does not exist")
        writable = share.writable or (path in by_path and by_path[path].writable)
        by_path[path] = Share(path, writable)
    return [by_path[path] for path in sorted(by_path, key=lambda path: path.parts)]


def daemon() -> Path | None:
    """The virtiofs daemon of this machine, or None: then shares are copied."""
    if os.environ.get(NO_VIRTIOFS):
        return None
    found = shutil.which("virtiofsd")
    candidates = [*_DAEMONS, *([Path(found)] if found else [])]
    return next((path for path in candidates if os.access(path, os.X_OK) and path.is_file()), None)


class Server:
    """The daemon that serves `shares`; `connection` is the one line to it, for QEMU.

    It ends when QEMU hangs up, and with the thread that started it.
    """

    def __init__(self, program: Path, shares: Sequence[Share]) -> None:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with tempfile.TemporaryDirectory(prefix="goldspawn-") as folder:
            listening.bind(f"{folder}/shares")
            listening.listen(1)
            self.connection.connect(f"{folder}/shares")
        listening.set_inheritable(True)
        tree = "/mnt"
        wanted = json.dumps([(str(share.path), share.writable) for share in shares])
        helper = [sys.executable, "-I", str(recipe.FILES / "serve.py"), tree, wanted]
        self.process = subprocess.Popen(
            namespace.inside([*helper, *_command(program, tree, listening.fileno())]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(listening.fileno(),),
            start_new_session=True,
        )
        listening.close()

    def end(self) -> str:
        """Stops the daemon and returns what it said on its standard error."""
        self.connection.close()
        self.process.kill()
        _, said = self.process.communicate()
        return said.decode(errors="replace").strip()


def _command(program: Path, tree: str, fd: int) -> list[str]:
    if _is_rust(program):
        # Tried by hand with version 1.13.2 of Debian trixie; the tests run with whatever the machine has.
        return [str(program), "--shared-dir", tree, "--fd", str(fd), "--sandbox", "chroot", "--xattr", "--cache=auto"]
    options = [f"source={tree}", "cache=auto", "xattr", "log_level=err"]
    return [str(program), f"--fd={fd}", *(part for option in options for part in ("-o", option)), "-f"]


def _is_rust(program: Path) -> bool:
    said = subprocess.run([str(program), "--help"], capture_output=True, text=True)
    return "--shared-dir" in said.stdout + said.stderr
