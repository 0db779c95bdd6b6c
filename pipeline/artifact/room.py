"""What a file system refuses, in a user's words: no room, no right, no such directory."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pipeline.errors import PlaceError

FULL = (errno.ENOSPC, errno.EDQUOT)


def check_room(path: Path, needed: int) -> None:
    """Raises `PlaceError` if the file system that the directory `path` is on has less than `needed` bytes left."""
    try:
        status = os.statvfs(path)
    except OSError as error:
        raise refused(path, error) from error
    if status.f_bavail * status.f_frsize < needed:
        raise no_room(path, needed)


def no_room(path: Path, needed: int | None = None, *, written: int | None = None) -> PlaceError:
    """The error for a directory without room: `needed` bytes in all, `written` of them are there."""
    message = f"no room in {path}"
    parts = []
    if needed is not None:
        parts.append(f"{size(needed)} are needed")
    if written is not None:
        parts.append(f"{size(written)} were written")
    try:
        status = os.statvfs(path)
    except OSError:
        pass
    else:
        parts.append(f"{size(status.f_bavail * status.f_frsize)} are free")
    return PlaceError(": ".join([message, ", ".join(parts)] if parts else [message]), hint="make room and run again")


def refused(path: Path, error: OSError) -> PlaceError:
    """The error for a path that cannot be made, opened or written, whatever the reason."""
    if error.errno in FULL:
        return no_room(path if path.is_dir() else path.parent)
    if error.errno == errno.ENOENT and not path.parent.is_dir():
        return PlaceError(f"{path.parent} does not exist", hint=f"mkdir -p {path.parent}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PlaceError(
            f"{path} cannot be written: {error.strerror}", hint=f"who runs this needs to write to {path.parent}"
        )
    return PlaceError(f"{path} cannot be written: {error.strerror}")


def size(count: int) -> str:
    """A number of bytes as one reads it: `95.3 MiB`."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{count} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
