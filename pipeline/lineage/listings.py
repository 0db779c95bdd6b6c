"""Listings of snapshots' trees, kept so that what two snapshots have in common is read once.

ZFS keeps a file's inode and the time of its last change from a snapshot to its clones, and from one version to the
next; and whatever is done to a file sets that time, which nobody can choose. So a file with both as before is the file
that was read before. A cache: what is lost or damaged costs time only.

<folder>/GUID    the tree of one snapshot, compressed (zlib): a line with the digest of what follows, and then all of
                 its entries (`Entry`) as marshal writes them: several times as fast as JSON, and for one Python only
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import sys
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from pipeline.artifact.entry import Entry
from pipeline.lineage.sending import origins
from pipeline.zfs import Zfs

KEPT = 100
"""How many listings are kept at most, each of about a megabyte; the longest unused go first."""


class Listings:
    """The listings in a folder, which need not be there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, guid: str) -> list[Entry]:
        """The tree of a snapshot, by its guid, in canonical order; [] if it was never listed."""
        with contextlib.suppress(OSError, zlib.error):
            head, _, body = zlib.decompress((self._folder / guid).read_bytes()).partition(b"\n")
            if head == _head(body):
                os.utime(self._folder / guid)
                return [Entry(*row) for row in marshal.loads(body)]
        return []

    def below(self, zfs: Zfs, snapshot: str) -> list[Entry]:
        """The tree of the nearest listed snapshot on which the dataset of `snapshot` stands, as a clone of a clone."""
        if not self._folder.is_dir():
            return []
        found = (self.of(zfs.get(origin, "guid")) for origin in origins(zfs, snapshot.split("@")[0]))
        return next(filter(None, found), [])

    def keep(self, guid: str, listed: Iterable[Entry]) -> None:
        """Keeps the tree of a snapshot."""
        body = marshal.dumps([tuple(entry) for entry in listed])
        with contextlib.suppress(OSError):  # it is of use, and not needed
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", suffix=".tmp", delete=False) as file:
                file.write(zlib.compress(_head(body) + b"\n" + body, 1))
            Path(file.name).replace(self._folder / guid)
            for old in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT]:
                old.unlink(missing_ok=True)


def _head(body: bytes) -> bytes:
    return f"goldspawn-files 2 {sys.implementation.cache_tag} {hashlib.sha256(body).hexdigest()}".encode()
