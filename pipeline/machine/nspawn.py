"""systemd-nspawn: running one command in a tree that is being made."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from pipeline.command import BuildLog, Result, run
from pipeline.zfs import room_explained

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def inside(
    tree: Path,
    argv: Sequence[str],
    *,
    log: BuildLog,
    timeout: float,
    env: Mapping[str, str] = {},
    shown: Mapping[str, Path] = {},
    check: bool = True,
    stdout: IO[bytes] | None = None,
    hint: str | None = None,
) -> Result:
    """Runs one command in a tree, with the host's network and name servers, and nothing else running.

    The container is registered nowhere and needs no systemd on the host; `timeout` is in seconds, and `stdout` a file
    for what would else go to the log. It can read what is `shown` of the host, by paths inside. sync() and fsync() do
    nothing inside: a tree that is lost half-way is thrown away anyway.
    """
    variables = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **env}
    command = [
        *container(tree, shown=shown),
        *(f"--setenv={key}={value}" for key, value in variables.items()),
        "--",
        *argv,
    ]
    # nspawn would mention every capability that it cannot give; what matters fails by itself.
    quiet = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    # An nspawn that is killed lets its container live on; one that is asked to end takes it along.
    with room_explained():
        return run(command, log=log, timeout=timeout, check=check, stdout=stdout, env=quiet, hint=hint, orphaned="TERM")


def container(tree: Path, binds: Mapping[str, Path] = {}, shown: Mapping[str, Path] = {}) -> list[str]:
    """The systemd-nspawn that runs one command in a tree, without the `--` and the command.

    `binds` are what it sees of the host, by the paths inside; that of `shown` it can only read.
    """
    return [
        "systemd-nspawn", "--quiet", "--settings=no", "--register=no", "--keep-unit", "--as-pid2", "--pipe",
        "--suppress-sync=yes", "--timezone=off", "--link-journal=no", "--resolv-conf=replace-host",
        f"--directory={tree}",
        *(f"--bind={_escaped(str(path))}:{where}" for where, path in binds.items()),
        *(f"--bind-ro={_escaped(str(path))}:{where}" for where, path in shown.items()),
    ]  # fmt: skip


def _escaped(path: str) -> str:
    """A path as an argument in which a colon has a meaning (systemd-nspawn(1), --bind)."""
    return path.replace("\\", "\\\\").replace(":", "\\:")
