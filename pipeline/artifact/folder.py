"""A folder that appears whole or not at all.

Everything is written into a hidden folder beside the target and put on the disk; then the two change places in one
step (`renameat2` with RENAME_EXCHANGE), and the old one is removed. Where a file system cannot do that (some FUSE
ones), there are two steps with a moment between them in which the target is missing; `sweep` finishes what was cut off
there. So whenever a build is killed, the target is the old one or the new one, whole, at the latest when the next build
begins.

The names tell how far it got: `.NAME.partial-*` is worth nothing, `.NAME.whole-*` is complete and about to become the
target. A writer holds a lock (flock) on its hidden folder, which the kernel drops when it dies, so that `sweep` leaves
the living alone. Between two machines that share the folder there is no such lock: whoever runs builds of one image on
several must keep them apart.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.artifact.room import FULL, check_room, no_room, refused
from pipeline.errors import PlaceError

__all__ = ["check_room", "publishing", "sweep"]

_HIDDEN = re.compile(r"\.(?P<name>.+)\.(?P<state>partial|whole|old)-\d+-[0-9a-f]+")
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


@contextlib.contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """Yields an empty directory beside `target`, which takes the place of `target` if the block ends without error.

    If it raises, `target` is as it was and the directory is gone. Raises `PlaceError` if the directory `target` is to
    be in is missing, not writable or full.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise PlaceError(f"{target} is in the way: it is no directory", hint="move it elsewhere and run again")
    partial, lock = _make(target)
    try:
        try:
            yield partial
            _sync(partial)
            _replace(partial, target)
        except OSError as error:
            place_error = _refused_inside(partial, target, error)
            if place_error is None:
                raise
            raise place_error from error
    finally:
        _clear(partial, target)
        os.close(lock)


def sweep(artifacts: Path, name: str | None = None) -> list[Path]:
    """Clears what killed builds left in `artifacts`, of image `name` only if one is given; returns what was cleared.

    A replacement that was cut off half-way is finished. What a living build on this machine writes is left alone.
    Raises `PlaceError` if `artifacts` cannot be read or written.
    """
    cleared = []
    try:
        # "whole" before "old": when both are there, the new one is what should stand.
        for path in sorted(artifacts.iterdir(), key=lambda path: ".old-" in path.name):
            match = _HIDDEN.fullmatch(path.name)
            if match is None or (name is not None and match["name"] != name) or not path.is_dir():
                continue
            # The writer's lock is on what it wrote: on "whole" as long as "old" is not yet done with.
            whole = path.with_name(path.name.replace(".old-", ".whole-"))
            with _locked(whole if whole.exists() else path) as mine:
                if not mine or not path.exists():
                    continue
                target = artifacts / match["name"]
                if match["state"] != "partial" and not target.exists():
                    path.rename(target)
                else:
                    shutil.rmtree(path, ignore_errors=True)
                    if path.exists():
                        raise PermissionError(
                            errno.EACCES, "left over from a killed build, cannot be removed", str(path)
                        )
                cleared.append(path)
    except OSError as error:
        if not artifacts.is_dir():
            raise PlaceError(f"{artifacts} is no directory", hint=f"mkdir -p {artifacts}") from error
        raise refused(Path(os.fsdecode(error.filename or artifacts)), error) from error
    return cleared


def _make(target: Path) -> tuple[Path, int]:
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        partial.mkdir()
        return partial, _lock(partial)
    except OSError as error:
        raise refused(target, error) from error


def _clear(partial: Path, target: Path) -> None:
    if not target.exists() and (old := _sibling(partial, "old")).exists():
        old.rename(target)
    for state in ("partial", "whole", "old"):
        shutil.rmtree(_sibling(partial, state), ignore_errors=True)


def _sibling(partial: Path, state: str) -> Path:
    return partial.with_name(partial.name.replace(".partial-", f".{state}-"))


def _replace(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.rename(target)
    elif not _exchange(partial, target):
        # Each name says what a next run has to do if this one ends here.
        whole, old = _sibling(partial, "whole"), _sibling(partial, "old")
        partial.rename(whole)
        target.rename(old)
        whole.rename(target)
    _sync_one(target.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Lets two names change places in one step; False where that cannot be had."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # a C library without it
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _sync(folder: Path) -> None:
    for directory, _, names in os.walk(folder, topdown=False):
        for name in names:
            if not Path(directory, name).is_symlink():
                _sync_one(Path(directory, name))
        _sync_one(Path(directory))


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync a directory
            raise
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        pass  # a file system without locks
    return descriptor


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Holds the lock on a hidden folder, and says so; False if somebody else has it or has removed the folder."""
    try:
        descriptor = _lock(folder)
    except (BlockingIOError, FileNotFoundError):
        yield False
        return
    try:
        yield folder.exists()
    finally:
        os.close(descriptor)


def _refused_inside(partial: Path, target: Path, error: OSError) -> PlaceError | None:
    """The error in a user's words if it is about this folder; None if it is about something else."""
    if error.errno in FULL:
        return no_room(target.parent)
    if isinstance(error.filename, (str, bytes)) and Path(os.fsdecode(error.filename)).is_relative_to(target.parent):
        return refused(target, error)
    return None
