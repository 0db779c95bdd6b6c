"""ZFS as goldspawn uses it: datasets, snapshots, clones, and where they are mounted. Knows nothing of images."""

from pipeline.zfs.datasets import Zfs
from pipeline.zfs.library import FULL, ZfsError, explained, lzc, room_explained
from pipeline.zfs.mounts import dataset_at, mounts_of, unmount
from pipeline.zfs.reading import Entry, Usage

__all__ = [
    "FULL",
    "Entry",
    "Usage",
    "Zfs",
    "ZfsError",
    "dataset_at",
    "explained",
    "lzc",
    "mounts_of",
    "room_explained",
    "unmount",
]
