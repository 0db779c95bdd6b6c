"""The digest of a file tree: two trees have the same one if a machine could not tell them apart.

What counts: names, types, owners, modes, extended attributes (capabilities and POSIX ACLs are such), contents, link
targets, which names are one file (hard links), device numbers. What does not: times, because no two builds have the
same and nothing in a machine's behaviour should hang on them; inode numbers, block counts and the order in which a
directory lists its names, which belong to the file system and not to the tree.

The digest is the SHA-256 of a text that anybody can make again. Its first line is `goldspawn-tree 1`; then follows one
line an entry, fields parted by one space, each line ended by a newline:

    TYPE MODE UID GID PATH [FIELD...]

- Order: the root first, then depth first, the names of a directory in the order of their bytes.
- TYPE: `d` directory, `f` regular file, `l` symbolic link, `c` and `b` devices, `p` fifo, `s` socket.
- MODE: the twelve lower bits, four octal digits (`l` always 0777). UID and GID: decimal.
- PATH: below the root, without a leading slash; the root itself is `.`.
- FIELDs, in this order, where they apply: `link=PATH` (the first name of the same file; then nothing else of it is
  repeated), `size=BYTES sha256=HEX` (`f`), `target=TARGET` (`l`), `device=MAJOR:MINOR` (`c`, `b`), and for each
  extended attribute, in the order of the bytes of its name, `xattr:NAME=HEX`.
- In PATH, TARGET and NAME every byte outside of `!` to `~`, and `%` and `=` themselves, stand as `%` and two upper-case
  hexadecimal digits.

Read as root: others do not see `trusted.*` and files that they may not open. On ZFS, POSIX ACLs are listed only where
`acltype=posixacl`. What is mounted below the root is an entry, but is not entered. Symbolic links are never followed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact.entry import NAMES, TYPES, Entry, quoted
from pipeline.errors import PlaceError

FORMAT = b"goldspawn-tree 1\n"

_BLOCK = 1 << 20
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(frozen=True)
class TreeDigest:
    """`sha256` of the canonical text, its number of `entries`, the `bytes` of its regular files, each counted once."""

    sha256: str
    entries: int
    bytes: int

    def __str__(self) -> str:
        """In one word, as a user property of a snapshot holds it; `TreeDigest.read` takes it."""
        return f"{self.sha256}:{self.entries}:{self.bytes}"

    @classmethod
    def read(cls, word: str) -> TreeDigest:
        sha256, count, size = word.split(":")
        return cls(sha256, int(count), int(size))


def digest(root: Path) -> TreeDigest:
    """The digest of the tree at `root`. Raises `PlaceError` where something cannot be read."""
    return digest_of(entries(root))


def digest_of(listed: Iterable[Entry]) -> TreeDigest:
    """The digest of a tree whose entries were listed, in canonical order."""
    whole = hashlib.sha256(FORMAT)
    count = size = 0
    for entry in listed:
        whole.update(entry.line())
        count += 1
        size += entry.size
    return TreeDigest(whole.hexdigest(), count, size)


def entries(
    root: Path, *, contents: bool = True, known: Mapping[tuple[int, int], str] | None = None
) -> Iterator[Entry]:
    """All entries of the tree at `root`, in canonical order. Raises `PlaceError` where something cannot be read.

    Without `contents` files are not read: their `sha256` is "". Those that are in `known` (the SHA-256 by inode and
    time of the last change) are not read, either: the caller knows that this is the same file system.
    """
    try:
        yield from _Walk(os.fsencode(root), contents, known or {}).run()
    except OSError as error:
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(root)
        raise PlaceError(f"the tree at {root} cannot be read: {os.path.normpath(name)}: {error.strerror}") from error


def sha256(root: Path, entry: Entry) -> str:
    """The digest of a file's contents, by its entry. Raises `OSError`."""
    descriptor = os.open(os.path.join(os.fsencode(root), entry.path), _OPEN)  # noqa: PTH118  # bytes are no Path
    try:
        return _contents(descriptor, entry.size)[1]
    finally:
        os.close(descriptor)


def differences(a: Path, b: Path) -> list[str]:
    """How the tree `a` ("here") differs from the tree `b` ("there"): readable lines, none if the digests are equal."""
    here = {entry.path: entry for entry in entries(a)}
    there = {entry.path: entry for entry in entries(b)}
    lines = []
    for path in sorted(here.keys() | there.keys()):
        one, other = here.get(path), there.get(path)
        if one is None or other is None:
            present, side = (one, "here") if one is not None else (other, "there")
            assert present is not None
            lines.append(f"{_shown(path)}: {NAMES[present.type]}, only {side}")
        elif one != other:
            lines += [f"{_shown(path)}: {line}" for line in _differences(one, other)]
    return lines


def _differences(one: Entry, other: Entry) -> Iterator[str]:
    if one.type != other.type:
        yield f"{NAMES[one.type]} here, {NAMES[other.type]} there"
        return
    for what, left, right in (
        ("mode", f"{one.mode:04o}", f"{other.mode:04o}"),
        ("owner", f"{one.uid}:{one.gid}", f"{other.uid}:{other.gid}"),
        ("target", _shown(one.target), _shown(other.target)),
        ("device", "{}:{}".format(*one.device), "{}:{}".format(*other.device)),
        ("the same file as", _shown(one.link) or "none before it", _shown(other.link) or "none before it"),
    ):
        if left != right:
            yield f"{what} {left} here, {right} there"
    if one.link or other.link:
        return  # the rest is told where the file has its first name
    if one.size != other.size:
        yield f"{one.size} bytes here, {other.size} there"
    elif one.sha256 != other.sha256:
        yield f"contents differ ({one.size} bytes)"
    left_xattrs, right_xattrs = dict(one.xattrs), dict(other.xattrs)
    for name in sorted(left_xattrs.keys() | right_xattrs.keys()):
        values = [side[name].hex() if name in side else "none" for side in (left_xattrs, right_xattrs)]
        if values[0] != values[1]:
            yield f"attribute {_shown(name)} {values[0]} here, {values[1]} there"


def _shown(name: bytes) -> str:
    return quoted(name).decode()


class _Walk:
    """One pass over a tree.

    Under emulation each system call costs about ten times what it should, and so does each line of Python: a regular
    file is opened by its name once, and all else (status, attributes, contents) is asked of the descriptor.
    """

    def __init__(self, root: bytes, contents: bool, known: Mapping[tuple[int, int], str]) -> None:
        # The dot has an automount (a snapshot below .zfs/snapshot) mounted before it is asked for anything: its bare
        # name would tell of the empty directory that waits there.
        self.root = root + b"/."
        self.contents = contents
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
                if child.is_file(follow_symlinks=False):
                    yield self.file(child.path, path)
                elif child.is_dir(follow_symlinks=False):
                    status = child.stat(follow_symlinks=False)
                    yield _entry(path, "d", status, xattrs=_xattrs(child.path))
                    if status.st_dev == self.device:
                        stack.append((path + b"/", iter(_listing(child.path))))
                        break
                else:
                    yield self.special(child, path)
            else:
                stack.pop()

    def file(self, name: bytes, path: bytes) -> Entry:
        descriptor = self.open(name)
        try:
            status = os.fstat(descriptor)
            if status.st_nlink > 1 and (first := self.first(status, path)) is not None:
                return _entry(path, "f", status, link=first)
            xattrs = _xattrs(descriptor)
            size, sha256 = status.st_size, self.known.get((status.st_ino, status.st_ctime_ns), "")
            if self.contents and not sha256:
                size, sha256 = _contents(descriptor, size)
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
