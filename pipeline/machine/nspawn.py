"""systemd-nspawn: running one command in a tree that is being made, and the settings of a machine that ships."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

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
    hint: str | None = None,
) -> Result:
    """Runs one command in a tree, with the host's network and name servers, and nothing else running.

    The container is registered nowhere and needs no systemd on the host; `timeout` is in seconds. sync() and fsync()
    do nothing inside: a tree that is lost half-way is thrown away anyway.
    """
    variables = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **env}
    command = [
        "systemd-nspawn", "--quiet", "--settings=no", "--register=no", "--keep-unit", "--as-pid2", "--pipe",
        "--suppress-sync=yes", "--timezone=off", "--link-journal=no", "--resolv-conf=replace-host",
        f"--directory={tree}", *(f"--setenv={key}={value}" for key, value in variables.items()), "--", *argv,
    ]  # fmt: skip
    # nspawn would mention every capability that it cannot give; what matters fails by itself.
    quiet = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    # An nspawn that is killed lets its container live on; one that is asked to end takes it along.
    with room_explained():
        return run(command, log=log, timeout=timeout, check=check, env=quiet, hint=hint, orphaned="TERM")


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
    if boot.private_users:
        lines += ["", "[Files]", "PrivateUsersOwnership=auto"]
    limits = unit_properties(boot)
    if limits:
        lines += ["", f"# Limits are the unit's: systemctl edit systemd-nspawn@{image.name}", "# [Service]"]
        lines += [f"# {key}={value}" for key, value in limits.items()]
    return "\n".join(lines) + "\n"
