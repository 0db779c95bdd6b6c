"""Packages that were fetched once, for all images and workers of a place: files known by their digest.

Whatever takes one out compares its digest with that of the repository's signed index, so no build can give another a
package that is not what the index says, be it cut off, damaged, or changed by a script that ran beside it. Nobody locks
anything: a file appears whole or not at all, and one that vanishes is fetched again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

AGE = 30 * 86400.0
SIZE = 4 << 30
"""How long a package that nobody asks for is kept, in seconds, and how much all of them may be, in bytes."""

_BLOCK = 1 << 20
_STALE = 86400.0
"""Seconds after which a file in the making is one that a killed run left."""

_URI = re.compile(r"'(?P<uri>[^']+)' (?P<file>[^\s/]+) (?P<size>\d+) (?P<kind>SHA256):(?P<digest>[0-9a-f]+)")


@dataclass(frozen=True)
class Archive:
    """One package as the index has it: the name that apt gives the file, its size in bytes, its digest."""

    file: str
    size: int
    kind: str
    digest: str


def wanted(lines: Iterable[str]) -> list[Archive]:
    """What `apt-get --print-uris install` says it would fetch; what has no strong digest is left to apt alone."""
    found = (_URI.fullmatch(line.strip()) for line in lines)
    return [Archive(one["file"], int(one["size"]), one["kind"].lower(), one["digest"]) for one in found if one]


def fetched(folder: Path) -> list[Archive]:
    """The packages that lie in a folder, each by its own digest: under any other nobody is ever given it."""
    found = []
    for file in sorted(folder.glob("*.deb")):
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as reader:
                digest = hashlib.file_digest(reader, "sha256").hexdigest()
            found.append(Archive(file.name, file.stat().st_size, "sha256", digest))
    return found


class Pool:
    """The packages kept in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def empty(self) -> bool:
        """Whether nothing is kept here."""
        return next(self.folder.glob("*"), None) is None

    def take(self, archives: Iterable[Archive], into: Path) -> list[Archive]:
        """Copies those that are here to the folder `into`, and returns them."""
        return [archive for archive in archives if self._take(archive, into)]

    def keep(self, archives: Iterable[Archive], fetched: Path) -> list[Archive]:
        """Copies those that lie in the folder `fetched` and are not here yet into the pool, and returns them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        new = (archive for archive in archives if not self._path(archive).exists())
        return [archive for archive in new if _copy(archive, fetched / archive.file, self._path(archive))]

    def prune(self, *, age: float = AGE, size: int = SIZE) -> None:
        """Removes what nobody asked for within `age` seconds, then the longest unused until `size` bytes are left."""
        now, total = time.time(), 0
        for used, length, path in sorted(self._files(), reverse=True):
            total += length
            stale = path.suffix == ".tmp" and now - used > _STALE
            if stale or now - used > age or total > size:
                path.unlink(missing_ok=True)
                total -= length

    def _take(self, archive: Archive, into: Path) -> bool:
        path = self._path(archive)
        if not path.exists():
            return False
        taken = _copy(archive, path, into / archive.file)
        with contextlib.suppress(OSError):
            if taken:
                os.utime(path)
            else:
                path.unlink()  # damaged on the disk: the next one fetches it again
        return taken

    def _path(self, archive: Archive) -> Path:
        return self.folder / f"{archive.digest[:40]}.{archive.kind}"

    def _files(self) -> Iterable[tuple[float, int, Path]]:
        for path in self.folder.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                yield state.st_mtime, state.st_size, path


def _copy(archive: Archive, source: Path, target: Path) -> bool:
    """Copies a package if it is what the index says; the target appears whole, or not."""
    partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}.tmp")
    digest = hashlib.new(archive.kind)
    try:
        if source.is_symlink() or source.stat().st_size != archive.size:
            return False
        with source.open("rb", buffering=0) as reader, partial.open("wb", buffering=0) as writer:
            while block := reader.read(_BLOCK):
                digest.update(block)
                writer.write(block)
        if digest.hexdigest() != archive.digest:
            return False
        partial.replace(target)
        return True
    except FileNotFoundError:
        return False
    finally:
        partial.unlink(missing_ok=True)
