"""systemd-nspawn: running one command in a tree that is being made, and the settings of a machine that ships."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from pipeline.command import BuildLog, Result, run
from pipeline.image import Boot, Image
from pipeline.zfs import room_explained

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def inside(
    tree: Path,
    argv: Sequence[str],
    *,
    log: BuildLog,
    timeout: float,
    env: Mapping[str, str] = {},
    check: bool = True,
    stdout: IO[bytes] | None = None,
    hint: str | None = None,
) -> Result:
    """Runs one command in a tree, with the host's network and name servers, and nothing else running.

    The container is registered nowhere and needs no systemd on the host; `timeout` is in seconds, and `stdout` a file
    for what would else go to the log. sync() and fsync() do nothing inside: a tree that is lost half-way is thrown
    away anyway.
    """
    variables = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **env}
    command = [*container(tree), *(f"--setenv={key}={value}" for key, value in variables.items()), "--", *argv]
    # nspawn would mention every capability that it cannot give; what matters fails by itself.
    quiet = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    # An nspawn that is killed lets its container live on; one that is asked to end takes it along.
    with room_explained():
        return run(command, log=log, timeout=timeout, check=check, stdout=stdout, env=quiet, hint=hint, orphaned="TERM")


def container(tree: Path, binds: Mapping[str, Path] = {}, shown: Mapping[str, Path] = {}) -> list[str]:
    """The systemd-nspawn that runs one command in a tree, without the `--` and the command.

    `binds` are directories that it sees, by their paths inside; those of `shown` it can only read.
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


def options(boot: Boot) -> list[str]:
    """systemd-nspawn's options for what `[boot]` of image.toml says."""
    chosen = (
        ["--private-users=pick", "--private-users-ownership=auto"] if boot.private_users else ["--private-users=no"]
    )
    if boot.nofile is not None:
        chosen.append(f"--rlimit=RLIMIT_NOFILE={boot.nofile}")
    return chosen


def unit_properties(boot: Boot) -> dict[str, str]:
    """The unit's properties (systemd.resource-control(5)) for what `[boot]` of image.toml says."""
    wanted = {
        "MemoryMax": None if boot.memory_max is None else str(boot.memory_max),
        "TasksMax": None if boot.tasks_max is None else str(boot.tasks_max),
        "CPUQuota": None if boot.cpu_quota is None else f"{boot.cpu_quota}%",
    }
    return {key: value for key, value in wanted.items() if value is not None}


def settings_file(image: Image) -> str:
    """The machine's .nspawn file for /etc/systemd/nspawn of a host (systemd.nspawn(5)); limits as comments."""
    boot = image.boot
    lines = [
        f"# {image.name}: {image.description}".rstrip(": "),
        f"# Install as /etc/systemd/nspawn/{image.name}.nspawn",
        "[Exec]",
        "Boot=yes",
        "NotifyReady=yes",
        f"PrivateUsers={'pick' if boot.private_users else 'no'}",
    ]
    if boot.nofile is not None:
        lines.append(f"LimitNOFILE={boot.nofile}")
    lines += ["", "[Network]", "Private=yes", "VirtualEthernet=yes"]
    shared = image.bootstrap.shared
    if boot.private_users or shared:
        lines += ["", "[Files]"]
    if boot.private_users:
        lines.append("PrivateUsersOwnership=auto")
    for path, writable in shared.items():
        # With users of its own a machine would see these files as nobody's, but for a mount that maps them.
        mapped = f":{path}:idmap" if boot.private_users else ""
        lines.append(f"Bind{'' if writable else 'ReadOnly'}={path}{mapped}")
    limits = unit_properties(boot)
    if limits:
        lines += ["", f"# Limits are the unit's: systemctl edit systemd-nspawn@{image.name}", "# [Service]"]
        lines += [f"# {key}={value}" for key, value in limits.items()]
    return "\n".join(lines) + "\n"
