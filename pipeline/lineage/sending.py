"""Streams of snapshots, and the points in a dataset's history that they start from. Knows nothing of images.

A stream of changes starts from an earlier snapshot, or from the bookmark that is left of one: a bookmark keeps the
guid and the birth time of a snapshot and none of its blocks (zfs-bookmark(8)). Datasets under native encryption are
sent raw, as they lie on the disk: what is exported stays encrypted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.zfs import Zfs, explained, lzc

_FLAGS = ("large_blocks", "embedded_data", "compress")


@dataclass(frozen=True)
class Point:
    """A snapshot or a bookmark: its full name, and the guid that it has in common with all its copies elsewhere."""

    name: str
    guid: str

    @property
    def bookmarked(self) -> bool:
        """Whether it is a bookmark."""
        return "#" in self.name

    @property
    def dataset(self) -> str:
        return self.name.replace("#", "@").split("@")[0]

    @property
    def version(self) -> str:
        """What stands behind the dataset's name."""
        return self.name.replace("#", "@").split("@")[1]


def points(zfs: Zfs, dataset: str) -> list[Point]:
    """The snapshots and bookmarks of a dataset itself, the oldest first; [] where there is no such dataset."""
    return [Point(name, guid) for name, guid in zfs.points(dataset)]


def origins(zfs: Zfs, dataset: str) -> Iterator[str]:
    """The snapshot that a dataset is a clone of, the one that this one's dataset is a clone of, and so on."""
    while (origin := zfs.get(dataset, "origin")) not in ("", "-"):
        yield origin
        dataset = origin.split("@")[0]


def bookmark(zfs: Zfs, snapshot: str) -> None:
    """Makes the bookmark DATASET#NAME of DATASET@NAME."""
    name = snapshot.replace("@", "#")
    zfs.log.command(["zfs", "bookmark", snapshot, name])
    with explained("bookmark", name):
        lzc().lzc_bookmark({name.encode(): snapshot.encode()})


def forget(zfs: Zfs, name: str) -> None:
    """Destroys a bookmark; does nothing where there is none."""
    zfs.log.command(["zfs", "destroy", name])
    with explained("destroy", name):
        lzc().lzc_destroy_bookmarks([name.encode()])


def encrypted(zfs: Zfs, snapshot: str) -> bool:
    """Whether a snapshot lies under native encryption, and so is sent raw."""
    return zfs.get(snapshot, "encryption") != "off"


def estimate(zfs: Zfs, snapshot: str, *, origin: str | None = None) -> int:
    """About how many bytes `send` would write."""
    with explained("send -n", snapshot):
        size = lzc().lzc_send_space(snapshot.encode(), origin.encode() if origin else None, _flags(zfs, snapshot))
    return int(size)


def send(zfs: Zfs, snapshot: str, fd: int, *, origin: str | None = None) -> None:
    """Writes a snapshot's stream into a file descriptor: compressed blocks, large blocks, embedded data.

    With `origin`, an earlier snapshot or bookmark of the same dataset, or the snapshot that it is a clone of (or a
    bookmark of that), what changed since. The stream carries no properties. Blocks until all is sent; raises
    `ZfsError`, or the error of the reader.
    """
    flags = _flags(zfs, snapshot)
    options = "-Lcew" if "raw" in flags else "-Lce"
    zfs.log.command(["zfs", "send", options, *(["-i", origin] if origin else []), snapshot])
    with explained("send", snapshot):
        lzc().lzc_send(snapshot.encode(), origin.encode() if origin else None, fd, flags)


def _flags(zfs: Zfs, snapshot: str) -> list[str]:
    return [*_FLAGS, "raw"] if encrypted(zfs, snapshot) else [*_FLAGS]
