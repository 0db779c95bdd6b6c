"""How a bootstrap's tools are run, and how a tree that they have made becomes a tar."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.command import BuildLog, run


def apart(argv: Sequence[str]) -> list[str]:
    """A command that is killed with all its children when we are, and whose mounts are its own.

    As root it gets namespaces for mounts and processes. A plain user's tool makes its own.
    """
    killed = ["setpriv", "--pdeathsig=KILL"]
    if os.geteuid() == 0:
        killed += ["unshare", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*killed, *argv]


def pack(tree: Path, tar: Path, *, log: BuildLog, timeout: float) -> None:
    """Writes a tree as a tar with everything that a file has: owners as numbers, attributes, ACLs, capabilities."""
    argv = ["tar", "--create", f"--file={tar}", f"--directory={tree}", "--sort=name", "--numeric-owner",
            "--format=posix", "--pax-option=delete=atime,delete=ctime",
            "--xattrs", "--xattrs-include=*", "--xattrs-exclude=system.*", "--acls",
            "--one-file-system", "."]  # fmt: skip
    run(argv, log=log, timeout=timeout)
