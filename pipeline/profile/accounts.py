"""Users and groups, made by the tree's own useradd and groupadd; those that exist are brought in line."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.command import BuildLog
from pipeline.image import Image, User
from pipeline.machine.nspawn import inside


def create(tree: Path, image: Image, *, log: BuildLog, slowness: float) -> None:
    """Creates the groups, then the users of `[profile]`, in one go inside the tree."""
    limit = 120 * slowness
    groups, users = _names(tree, "group"), _names(tree, "passwd")
    for group in image.profile.groups:
        verb = "groupmod" if group.name in groups else "groupadd"
        number = [f"--gid={group.gid}"] if group.gid is not None else []
        system = ["--system"] if group.system and verb == "groupadd" else []
        if verb == "groupadd" or number:
            inside(tree, [verb, *number, *system, group.name], log=log, timeout=limit)
    for user in image.profile.users:
        own_group = user.name in groups or any(group.name == user.name for group in image.profile.groups)
        inside(tree, _command(user, exists=user.name in users, own_group=own_group), log=log, timeout=limit)
        if user.authorized_keys:
            _authorize(tree, user)


def _command(user: User, *, exists: bool, own_group: bool) -> list[str]:
    argv = ["usermod"] if exists else ["useradd", "--create-home"]
    if own_group and not exists:
        argv.append(f"--gid={user.name}")  # useradd would want to make the group of that name itself
    if user.uid is not None:
        argv.append(f"--uid={user.uid}")
    if user.groups:
        argv += [f"--groups={','.join(user.groups)}", *(["--append"] if exists else [])]
    if user.shell is not None:
        argv.append(f"--shell={user.shell}")
    if user.home is not None:
        argv.append(f"--home={user.home}" if exists else f"--home-dir={user.home}")
    if user.system and not exists:
        argv.append("--system")
    if user.password != "locked":
        argv.append(f"--password={user.password}")
    return [*argv, user.name]


def _authorize(tree: Path, user: User) -> None:
    rows = (line.split(":") for line in (tree / "etc/passwd").read_text().splitlines())
    uid, gid, home = next((int(row[2]), int(row[3]), row[5]) for row in rows if row[0] == user.name)
    folder = tree / home.lstrip("/") / ".ssh"
    folder.mkdir(parents=True, exist_ok=True)
    keys = folder / "authorized_keys"
    keys.write_text("".join(f"{key}\n" for key in user.authorized_keys))
    for path, mode in ((folder, 0o700), (keys, 0o600)):
        path.chmod(mode)
        os.chown(path, uid, gid)


def _names(tree: Path, database: str) -> set[str]:
    path = tree / "etc" / database
    return {line.split(":")[0] for line in path.read_text().splitlines()} if path.exists() else set()
