"""Locks that runs hold on an image's datasets, and on a layer while they make it; beside each stands who holds it.

The kernel lets go of them when a process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.place import Place


def image_lock(name: str, place: Place) -> Path:
    """The file whose lock guards the datasets of an image."""
    return place.lock(f"{place.layout.work}/{name}")


def layer_lock(layer: str, place: Place) -> Path:
    """The file whose lock guards the making of a layer, by its key or by a dataset, whose name begins with that."""
    return place.lock(f"bootstrap-{layer.rsplit('/', 1)[-1].split('-')[0]}")


def is_at_work(place: Place, dataset: str) -> bool:
    """Whether a run holds the lock of a dataset: an image's, or a layer's that is being made."""
    parent, _, name = dataset.rpartition("/")
    if parent in (place.layout.work, place.layout.golden):
        return not _unlocked(image_lock(name, place))
    return not _unlocked(layer_lock(dataset, place))


def _unlocked(lock: Path) -> bool:
    try:
        with FileLock(lock, blocking=False):
            return True
    except Timeout:
        return False


@contextlib.contextmanager
def locked(path: Path, what: str, wait: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock file. Where another process does, waits for it after telling `wait` who holds `what`."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = path.with_suffix(".pid")
        wait(f"{what} is held by process {holder.read_text().strip() if holder.exists() else '?'}; waiting for it")
        lock.acquire()
    try:
        path.with_suffix(".pid").write_text(f"{os.getpid()}\n")
        yield
    finally:
        lock.release()
