"""Folders for work in progress: locked while their process lives, so that the next run knows what is left over.

A process that was killed cannot clean up. The lock on its folder went with it, and whoever works there next finds
the folder unlocked and removes it. Nothing is mounted in it by then: what we run has mounts of its own, which end
with the process (see `pipeline.bootstrap.apart`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.command import output

_YOUNG = 60.0
"""Seconds for which a folder without a lock is taken for one that is just being made."""
_PREFIX = ".goldspawn-"
_SUFFIX = ".tmp"

_PASSABLE = 0o711
"""The mode of a folder through which other users go: apt's _apt for one."""


@contextlib.contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """A new folder in that of `beside` (made where missing), gone after the block.

    Clears what killed runs left there.
    """
    folder = beside.absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    with _locked_folder(folder, _PASSABLE) as made:
        yield made


@contextlib.contextmanager
def scratch_for_all() -> Iterator[Path]:
    """A new folder among the temporary files, for what runs under ids of a range from /etc/subuid.

    A plain user's own folders are often closed to those ids.
    """
    with _locked_folder(Path(tempfile.gettempdir()), _PASSABLE) as made:
        yield made


@contextlib.contextmanager
def scratch_for_one() -> Iterator[Path]:
    """A new folder among the temporary files, closed to all other users."""
    with _locked_folder(Path(tempfile.gettempdir()), 0o700) as made:
        yield made


@contextlib.contextmanager
def _locked_folder(parent: Path, mode: int) -> Iterator[Path]:
    _clear(parent)
    made = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=_SUFFIX, dir=parent))
    try:
        made.chmod(mode)
        with (made / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield made
    finally:
        _remove(made)


def _clear(parent: Path) -> None:
    for left in parent.glob(f"{_PREFIX}*{_SUFFIX}"):
        try:
            if left.lstat().st_uid != os.geteuid():
                continue
            with (left / "lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _YOUNG:
                    _remove(left)
        except BlockingIOError:
            continue


def _remove(folder: Path) -> None:
    """Removes a folder of ours, files of other users in it included (those of our range in /etc/subuid)."""
    if os.path.ismount(folder) or _has_mounts(folder):
        return
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except PermissionError:
        output(["unshare", "--map-root-user", "--map-auto", "rm", "-rf", str(folder)], check=False)


def _has_mounts(folder: Path) -> bool:
    below = f"{folder}/"
    return any(line.split()[4].startswith(below) for line in Path("/proc/self/mountinfo").read_text().splitlines())
