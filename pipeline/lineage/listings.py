"""Listings of snapshots' trees, kept so that what two snapshots have in common is read once.

ZFS keeps a file's inode and the time of its last change from a snapshot to its clones, and from one version to the
next; and whatever is done to a file sets that time, which nobody can choose. So a file with both as before is the file
that was read before. A cache: what is lost or damaged costs time only.

<folder>/GUID    the tree of one snapshot, compressed (zlib): a line with the digest of what follows, and that is all
                 entries (`Entry`) as JSON
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifact.entry import Entry
from pipeline.lineage.sending import origins
from pipeline.zfs import Zfs

KEPT = 100
"""How many listings are kept at most, each of about a megabyte; the longest unused go first."""

_HEAD = b"goldspawn-files 2 %b\n"


class Listings:
    """The listings in a folder, which need not be there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, guid: str) -> list[Entry]:
        """The tree of a snapshot, by its guid, in canonical order; [] if it was never listed."""
        with contextlib.suppress(OSError, ValueError, zlib.error):
            text = zlib.decompress((self._folder / guid).read_bytes())
            body = text[text.index(b"\n") + 1 :]
            if text.startswith(_HEAD % hashlib.sha256(body).hexdigest().encode()):
                os.utime(self._folder / guid)
                return [_entry(row) for row in json.loads(body)]
        return []

    def below(self, zfs: Zfs, snapshot: str) -> list[Entry]:
        """The tree of the nearest listed snapshot on which the dataset of `snapshot` stands, as a clone of a clone."""
        if not self._folder.is_dir():
            return []
        found = (self.of(zfs.get(origin, "guid")) for origin in origins(zfs, snapshot.split("@")[0]))
        return next(filter(None, found), [])

    def keep(self, guid: str, listed: Iterable[Entry]) -> None:
        """Keeps the tree of a snapshot."""
        body = json.dumps([_row(entry) for entry in listed], separators=(",", ":")).encode()
        text = _HEAD % hashlib.sha256(body).hexdigest().encode() + body
        with contextlib.suppress(OSError):  # it is of use, and not needed
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", suffix=".tmp", delete=False) as file:
                file.write(zlib.compress(text, 1))
            Path(file.name).replace(self._folder / guid)
            for old in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT]:
                old.unlink(missing_ok=True)


def _row(entry: Entry) -> tuple[Any, ...]:
    """An entry for JSON, which has no bytes: each becomes the character of that number."""
    path, kind, mode, uid, gid, link, size, sha256, target, device, xattrs, *times = entry
    pairs = [(_text(name), _text(value)) for name, value in xattrs]
    return _text(path), kind, mode, uid, gid, _text(link), size, sha256, _text(target), device, pairs, *times


def _entry(row: Sequence[Any]) -> Entry:
    path, kind, mode, uid, gid, link, size, sha256, target, device, pairs, *times = row
    xattrs = tuple((_bytes(name), _bytes(value)) for name, value in pairs)
    head = (_bytes(path), kind, mode, uid, gid, _bytes(link), size, sha256)
    return Entry(*head, _bytes(target), tuple(device), xattrs, *times)


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
