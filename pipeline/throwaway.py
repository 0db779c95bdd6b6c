"""Clones that nobody needs when the process that made them is gone, and what is left of those whose process died.

All that boots, and all that may fail, is such a clone: `BASE/boot/NAME`, with the process in its user properties.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.image import Boot
from pipeline.image.values import in_bytes
from pipeline.machine.unit import stop_machines_of
from pipeline.place import RUN, Place
from pipeline.zfs import Zfs, dataset_at, mounts_of, unmount

OWNER = {"owner": "goldspawn"}
"""The user property of each dataset that goldspawn created."""

_ROOM = 4 << 30
"""Bytes that a machine can write where neither its image nor the pool says otherwise."""

OPENED = "opened-gs"
"""What the name of a clone begins with that somebody opened to look inside (`pipeline.cache`)."""


def machine_name(image: str, number: int = 1) -> str:
    """The name of the machine that is verified: the image's and the process's, so that it clashes with no other.

    `number` tells further ones of the same process apart.
    """
    suffix = f"-gs{os.getpid()}" + (f"-{number}" if number > 1 else "")
    return image[: 64 - len(suffix)] + suffix


@contextlib.contextmanager
def clone(snapshot: str, name: str, place: Place, zfs: Zfs, *, properties: Mapping[str, str] = {}) -> Iterator[Path]:
    """A clone of a snapshot as `name`, mounted; destroyed after the block.

    The name begins with that of `machine_name`, or with `OPENED`: by that the next run knows what a dead one left.
    """
    dataset = f"{place.layout.boots}/{name}"
    zfs.clone(snapshot, dataset, properties=properties, marks={**OWNER, "process": _identity(os.getpid())})
    try:
        with zfs.mounted(dataset, place.mountpoint(dataset)) as tree:
            yield tree
    finally:
        zfs.destroy(dataset)


def bootable(snapshot: str, name: str, boot: Boot, place: Place, zfs: Zfs) -> contextlib.AbstractContextManager[Path]:
    """As `clone`, for a machine to boot from: it can fill its own disk (`boot.room`), and not the pool."""
    free = int(zfs.get(place.layout.boots, "available"))
    room = in_bytes(boot.room) if boot.room is not None else min(_ROOM, free // 2)
    whole = int(zfs.get(snapshot, "referenced")) + room
    return clone(snapshot, name, place, zfs, properties={"refquota": str(whole)})


@contextlib.contextmanager
def copied(tree: Path, *, image: str, place: Place, zfs: Zfs) -> Iterator[Path]:
    """A throw-away clone of the dataset that is mounted at `tree` as it is now, mounted: for what may fail."""
    origin = f"{dataset_at(tree)}@trial"
    zfs.snapshot(origin, marks=OWNER)
    try:
        with clone(origin, f"{machine_name(image)}.trial", place, zfs) as copy:
            yield copy
    finally:
        zfs.destroy(origin)


def sweep(image: str, place: Place, zfs: Zfs) -> None:
    """Clears machines, mounts and clones that dead processes left of this image, and what they opened to look inside.

    What living processes made is left alone: other tests of ours may boot clones of this image.
    """
    for entry in reversed(zfs.entries(place.layout.boots, depth=1)):  # NAME.trial may be a clone of NAME.builder
        name = entry.name.rsplit("/", 1)[1]
        process = entry.properties.get("process", "")
        alive = process != "" and _identity(int(process.partition(":")[0])) == process
        if name.startswith((f"{image}-gs", OPENED)) and entry.kind == "filesystem" and not alive:
            stop_machines_of(name, zfs.log)
            unmount_all(entry.name)
            zfs.destroy(entry.name)
    for folder in (RUN / "mnt").glob("*"):
        if not (folder.name.isdigit() and Path(f"/proc/{folder.name}").exists()):
            _remove_empty(folder)


def unmount_all(dataset: str) -> None:
    """Unmounts a dataset from wherever it is mounted."""
    for where in mounts_of(dataset):
        unmount(where)


def _remove_empty(folder: Path) -> None:
    for path in [*sorted(folder.rglob("*"), reverse=True), folder]:
        if not path.is_mount():
            with contextlib.suppress(OSError):
                path.rmdir()


def _identity(pid: int) -> str:
    """A process, told from all others that had its number: an appliance, restored from one state, gives them again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return f"{pid}:{stat.rpartition(')')[2].split()[19]}"  # starttime, of proc(5)
