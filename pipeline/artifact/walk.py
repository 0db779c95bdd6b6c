"""One pass over a file tree: its entries in canonical order (see `tree`), with no more read than has to be."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.artifact.entry import TYPES, Entry
from pipeline.errors import PlaceError

_BLOCK = 1 << 20
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

Known = Mapping[tuple[int, int], Entry]
"""Entries by inode and time of the last change (in nanoseconds)."""


def known_by(listed: Iterable[Entry]) -> Known:
    """What is `known` of a tree that was listed before: each of its files under the first of its names."""
    return {(entry.inode, entry.changed): entry for entry in listed if not entry.link}


def entries(root: Path, *, known: Known | None = None) -> Iterator[Entry]:
    """All entries of the tree at `root`, in canonical order. Raises `PlaceError` where something cannot be read.

    Of what is `known` nothing is read but inode and time of the last change. The caller knows that it was listed in
    the same file system, or in one that is a clone of the same snapshot: whatever is done to a file sets that time,
    which nobody can choose.
    """
    try:
        yield from _Walk(os.fsencode(root), known or {}).run()
    except OSError as error:
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(root)
        raise PlaceError(f"the tree at {root} cannot be read: {os.path.normpath(name)}: {error.strerror}") from error


class _Walk:
    """One pass over a tree.

    Under emulation each system call costs about ten times what it should, and so does each line of Python: a regular
    file is opened by its name once, and all else (status, attributes, contents) is asked of the descriptor.
    """

    def __init__(self, root: bytes, known: Known) -> None:
        # The dot has an automount (a snapshot below .zfs/snapshot) mounted before it is asked for anything: its bare
        # name would tell of the empty directory that waits there.
        self.root = root + b"/."
        self.known = known
        self.device = -1
        self.first_names: dict[tuple[int, int], bytes] = {}
        self.noatime = os.O_NOATIME

    def run(self) -> Iterator[Entry]:
        status = os.stat(self.root)  # noqa: PTH116  # bytes are no Path
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.root)
        self.device = status.st_dev
        yield _entry(b".", "d", status, xattrs=_xattrs(self.root, follow=True))
        yield from self.below(self.root, b"")

    def below(self, directory: bytes, prefix: bytes) -> Iterator[Entry]:
        # A stack instead of recursion: a tree may be deeper than Python's limit.
        stack = [(prefix, iter(_listing(directory)))]
        while stack:
            prefix, children = stack[-1]
            for child in children:
                path = prefix + child.name
                entry = self.again(child, path) or self.read(child, path)
                yield entry
                if entry.type == "d" and child.stat(follow_symlinks=False).st_dev == self.device:
                    stack.append((path + b"/", iter(_listing(child.path))))
                    break
            else:
                stack.pop()

    def again(self, child: os.DirEntry[bytes], path: bytes) -> Entry | None:
        """The entry of what is known; None if this is not."""
        if not self.known:
            return None
        status = child.stat(follow_symlinks=False)
        entry = self.known.get((status.st_ino, status.st_ctime_ns))
        if entry is None or status.st_dev != self.device:
            return None
        if entry.type != "d" and status.st_nlink > 1 and (first := self.first(status, path)) is not None:
            return _entry(path, entry.type, status, link=first)
        return entry if entry.path == path else entry._replace(path=path)

    def read(self, child: os.DirEntry[bytes], path: bytes) -> Entry:
        if child.is_file(follow_symlinks=False):
            return self.file(child.path, path)
        if child.is_dir(follow_symlinks=False):
            return _entry(path, "d", child.stat(follow_symlinks=False), xattrs=_xattrs(child.path))
        return self.special(child, path)

    def file(self, name: bytes, path: bytes) -> Entry:
        descriptor = self.open(name)
        try:
            status = os.fstat(descriptor)
            if status.st_nlink > 1 and (first := self.first(status, path)) is not None:
                return _entry(path, "f", status, link=first)
            xattrs = _xattrs(descriptor)
            size, sha256 = _contents(descriptor, status.st_size)
            return _entry(path, "f", status, size=size, sha256=sha256, xattrs=xattrs)
        except OSError as error:
            error.filename = name
            raise
        finally:
            os.close(descriptor)

    def open(self, name: bytes) -> int:
        try:
            return os.open(name, _OPEN | self.noatime)
        except PermissionError:
            if not self.noatime:
                raise
            # Only a file's owner and root may leave its access time alone; some network file systems let nobody.
            self.noatime = 0
            return os.open(name, _OPEN)

    def special(self, child: os.DirEntry[bytes], path: bytes) -> Entry:
        status = child.stat(follow_symlinks=False)
        kind = TYPES[stat.S_IFMT(status.st_mode)]
        if status.st_nlink > 1 and (first := self.first(status, path)) is not None:
            return _entry(path, kind, status, link=first)
        xattrs = _xattrs(child.path)
        if kind == "l":
            return _entry(path, kind, status, target=_target(child.path), xattrs=xattrs)
        if kind in "cb":
            device = (os.major(status.st_rdev), os.minor(status.st_rdev))
            return _entry(path, kind, status, device=device, xattrs=xattrs)
        return _entry(path, kind, status, xattrs=xattrs)

    def first(self, status: os.stat_result, path: bytes) -> bytes | None:
        """The name under which this file was met before, if it was."""
        first = self.first_names.setdefault((status.st_dev, status.st_ino), path)
        return None if first is path else first


def _target(link: bytes) -> bytes:
    return os.readlink(link)  # noqa: PTH115  # bytes are no Path


def _listing(directory: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(directory) as listing:
        return sorted(listing, key=lambda child: child.name)


def _entry(
    path: bytes,
    kind: str,
    status: os.stat_result,
    *,
    link: bytes = b"",
    size: int = 0,
    sha256: str = "",
    target: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: tuple[tuple[bytes, bytes], ...] = (),
) -> Entry:
    mode = status.st_mode & 0o7777
    owner, times = (status.st_uid, status.st_gid), (status.st_mtime_ns, status.st_ino, status.st_ctime_ns)
    return Entry(path, kind, mode, *owner, link, size, sha256, target, device, xattrs, *times)


def _xattrs(where: bytes | int, *, follow: bool = False) -> tuple[tuple[bytes, bytes], ...]:
    follow = follow or isinstance(where, int)
    try:
        names = os.listxattr(where, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise
    if not names:
        return ()
    return tuple((name, os.getxattr(where, name, follow_symlinks=follow)) for name in sorted(map(os.fsencode, names)))


def _contents(descriptor: int, size: int) -> tuple[int, str]:
    """Size and digest of what is read; most files cost one read."""
    if size == 0:
        return 0, _EMPTY
    block = os.read(descriptor, min(size, _BLOCK))
    total = len(block)
    contents = hashlib.sha256(block)
    while total < size and (block := os.read(descriptor, _BLOCK)):
        contents.update(block)
        total += len(block)
    return total, contents.hexdigest()


_EMPTY = hashlib.sha256().hexdigest()
