"""The image's own files: `root/` copied over the tree."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from pipeline.command import BuildLog
from pipeline.errors import InputError


def copy(root: Path, tree: Path, *, log: BuildLog) -> None:
    """Copies `root/` over `tree`: contents, links and modes as they are, everything owned by root.

    What git and editors do to a folder must not end up in a machine: write bits of group and others are dropped, the
    owner's own are added. A directory that is there already keeps its mode and owner. Links of the tree are followed
    only within the tree (`/bin` is one to `usr/bin`). Raises `InputError` where a file and a directory meet.
    """
    log.command(["cp", "-a", "--no-preserve=ownership", f"{root}/.", f"{tree}/"])
    for folder, folders, names in os.walk(root):
        folders.sort()
        target = _within(tree, Path(folder).relative_to(root))
        if target.exists() and not target.is_dir():
            raise InputError(f"{folder}: is a directory, and in the tree there is a file of that name")
        if not target.exists():
            target.mkdir(mode=0o755)
            target.chmod(_mode(Path(folder)))
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in links:
            folders.remove(name)
        for name in sorted([*names, *links]):
            _copy_file(Path(folder) / name, target / name)


def _copy_file(source: Path, target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        raise InputError(f"{source}: is a file, and in the tree there is a directory of that name")
    if not source.is_symlink() and not source.is_file():
        raise InputError(f"{source}: only files, directories and links can be copied")
    target.unlink(missing_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
    else:
        shutil.copyfile(source, target)
        target.chmod(_mode(source))
        os.chown(target, 0, 0)


def _mode(path: Path) -> int:
    mode = stat.S_IMODE(path.stat().st_mode)
    return mode & ~0o022 | 0o600


def _within(tree: Path, relative: Path) -> Path:
    """`tree/relative` with the tree's own links resolved as a process in the tree would, never out of it."""
    at = tree
    parts = list(relative.parts)
    hops = 0
    while parts:
        part = parts.pop(0)
        if part in ("", ".", "/"):
            continue
        if part == "..":
            at = at.parent if at != tree else tree
            continue
        step = at / part
        if step.is_symlink():
            hops += 1
            if hops > 40:
                raise InputError(f"/{relative}: too many links in the tree")
            link = step.readlink()
            at = tree if link.is_absolute() else at
            parts = [*link.parts, *parts]
            continue
        at = step
    return at
