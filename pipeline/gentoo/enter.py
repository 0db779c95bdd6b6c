"""How a command is run in a builder root: under systemd-nspawn, or where that cannot be had in namespaces of its own.

Both are what stands before the command, and nothing stays mounted when it has ended, however it ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pipeline.machine.nspawn import container

_SCRIPT = Path(__file__).with_name("enter.sh")


class Enter(Protocol):
    """What runs a command in the tree `root`: `binds` are directories that it sees by their paths inside, `shown`
    those that it can only read.
    """

    def __call__(self, root: Path, binds: Mapping[str, Path], shown: Mapping[str, Path]) -> list[str]: ...


def nspawn(root: Path, binds: Mapping[str, Path], shown: Mapping[str, Path]) -> list[str]:
    """Under systemd-nspawn: for a host with systemd, and root."""
    # It mentions every capability that it cannot give; one that is killed would let its container live on.
    quiet = ["env", "SYSTEMD_LOG_LEVEL=warning", "setpriv", "--pdeathsig", "TERM", "--"]
    return [*quiet, *container(root, binds, shown), "--"]


def chroot(root: Path, binds: Mapping[str, Path], shown: Mapping[str, Path]) -> list[str]:
    """In a chroot with mounts of its own: for root of whatever namespace."""
    mounts = [word for where, path in binds.items() for word in ("rw", str(path), where)]
    mounts += [word for where, path in shown.items() for word in ("ro", str(path), where)]
    apart = ["unshare", "--mount", "--propagation=private", "--"]
    return [*apart, "sh", str(_SCRIPT), str(root), *mounts, "--"]
