"""Root without being root: the mount and user namespaces in which the appliance is built and its shares are gathered.

Whoever is root needs a mount namespace only. Everybody else becomes root of a user namespace with the range of ids
that /etc/subuid gives them (newuidmap of the package uidmap), as podman and mmdebstrap do.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from pipeline.errors import PlaceError


def leashed(argv: list[str]) -> list[str]:
    """`argv`, killed by the kernel when the thread that starts it is gone (PR_SET_PDEATHSIG of prctl(2))."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]


def inside(argv: list[str], *, processes: bool = False) -> list[str]:
    """`argv`, run as root of a namespace of its own, and killed with the thread that starts it.

    With `processes` it gets a process namespace too, where the machine allows that, so that its children die with it.
    """
    own = ["--pid", "--fork", "--kill-child=KILL", "--mount-proc"] if processes and _process_namespaces() else []
    # chroot and mount's helpers are not in a plain user's path.
    path = f"PATH={os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    # A second leash: the first is lost where unshare changes credentials.
    return leashed(["unshare", *_user(), "--mount", *own, "--", "env", path, *leashed(argv)])


def check() -> None:
    """Raises `PlaceError`, with what to do, when this user can have no namespace."""
    done = subprocess.run(inside(["true"]), capture_output=True, text=True)
    if done.returncode == 0:
        return
    said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    if os.geteuid() == 0:
        hint = "a container needs the capability CAP_SYS_ADMIN for it"
    elif not has_range():
        hint = f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {_name()}"
    else:
        hint = "the host must allow user namespaces (sysctl kernel.unprivileged_userns_clone, AppArmor)"
    raise PlaceError(f"cannot become root of a namespace here: {said}", hint=hint)


def has_range() -> bool:
    """Whether this user has a range of subordinate ids, of users and of groups."""
    wanted = {_name(), str(os.geteuid())}
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        lines = path.read_text().splitlines() if path.exists() else []
        if not wanted & {line.partition(":")[0] for line in lines}:
            return False
    return True


def remove(path: Path) -> None:
    """Removes a directory of which the ids of a namespace may own parts."""
    if path.exists():
        shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        subprocess.run(inside(["rm", "-rf", "--", str(path)]), capture_output=True, check=False)


def _user() -> list[str]:
    return [] if os.geteuid() == 0 else ["--map-root-user", "--map-auto"]


def _name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())


@cache
def _process_namespaces() -> bool:
    argv = ["unshare", *_user(), "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--", "true"]
    return subprocess.run(argv, capture_output=True).returncode == 0
