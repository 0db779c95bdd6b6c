"""ZFS as goldspawn uses it: datasets, snapshots, clones, and where they are mounted. Knows nothing of images."""

from pipeline.zfs.datasets import Entry, Usage, Zfs
from pipeline.zfs.library import FULL, ZfsError, explained, lzc, room_explained
from pipeline.zfs.mounts import dataset_at, mounts_of, unmount

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
