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

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact.entry import NAMES, Entry, quoted
from pipeline.artifact.walk import entries

FORMAT = b"goldspawn-tree 1\n"


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
