"""Digests of files by the snapshot they are in, kept so that a file which two snapshots have in common is read once.

ZFS keeps a file's inode and the time of its last change from a snapshot to its clones, and from one version to the
next; and whatever is done to a file sets that time, which nobody can choose. So a file with both as before is the file
that was read before. A cache: what is lost or damaged costs time only.

<folder>/GUID    the files of one snapshot: a line for each, `INODE CHANGED SHA256`, below the digest of these lines
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.artifact.entry import Entry
from pipeline.lineage.sending import origins
from pipeline.zfs import Zfs

KEPT = 100
"""How many listings are kept at most, each of about a megabyte; the longest unused go first."""

_HEAD = "goldspawn-files 1 "

Known = Mapping[tuple[int, int], str]
"""SHA-256 of files, by inode and time of the last change (in nanoseconds)."""


class Listings:
    """The listings in a folder, which need not be there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, guid: str) -> Known:
        """The files of a snapshot, by its guid; none, if it was never listed."""
        with contextlib.suppress(OSError, ValueError):
            head, lines = (self._folder / guid).read_text().split("\n", 1)
            if head == _HEAD + hashlib.sha256(lines.encode()).hexdigest():
                os.utime(self._folder / guid)
                listed = (line.split() for line in lines.splitlines())
                return {(int(inode), int(changed)): digest for inode, changed, digest in listed}
        return {}

    def below(self, zfs: Zfs, snapshot: str) -> Known:
        """The files of the nearest listed snapshot on which the dataset of `snapshot` stands, as a clone of a clone."""
        if not self._folder.is_dir():
            return {}
        found = (self.of(zfs.get(origin, "guid")) for origin in origins(zfs, snapshot.split("@")[0]))
        return next(filter(None, found), {})

    def keep(self, guid: str, listed: Iterable[Entry]) -> None:
        """Keeps the files of a snapshot, of which each has been read."""
        lines = "".join(f"{one.inode} {one.changed} {one.sha256}\n" for one in listed if one.sha256)
        with contextlib.suppress(OSError):  # it is of use, and not needed
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._folder, prefix=".", suffix=".tmp", delete=False) as file:
                file.write(f"{_HEAD}{hashlib.sha256(lines.encode()).hexdigest()}\n{lines}")
            Path(file.name).replace(self._folder / guid)
            for old in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT]:
                old.unlink(missing_ok=True)
