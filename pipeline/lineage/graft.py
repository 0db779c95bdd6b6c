"""Graft: makes a tree equal to another one by rewriting only what differs, so that a snapshot of it is a small delta.

`plan` decides from two lists of entries alone; `act` does it. What counts is what `pipeline.artifact.tree` counts, and
for files and symbolic links also the time of their last change: Python's byte code and Portage's CONTENTS hold the
times of other files, so these have to stay together. An unchanged file costs no byte, one of which only the time or the
mode changed about half a kilobyte; of one whose contents changed the blocks that differ are written, in place. A file
that got another name is written anew. Directories that are touched get the time of the clean ones; others keep theirs.

Both trees must be at rest, and the one that is changed of no use to anybody until it is done: who is stopped in the
middle rolls back (`pipeline.lineage`).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.artifact.entry import TYPES, Entry, quoted
from pipeline.artifact.walk import entries
from pipeline.errors import PlaceError

BLOCK = 128 << 10
"""Bytes that are compared and written at once: ZFS's default recordsize, so that a block is rewritten or is not."""

_FORMATS = {letter: kind for kind, letter in TYPES.items()}
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME


class Step(NamedTuple):
    """One act on the name `path`.

    - `remove`: the name goes (a directory is empty by then);
    - `make`: a new file, directory, link or device as `entry` says, with the contents of the clean tree;
    - `link`: a further name of the file that stands at `source`;
    - `patch`: the file's blocks that differ from those of the clean tree are rewritten;
    - `dress`: owner, mode, extended attributes and time become those of `entry`.
    """

    act: Literal["remove", "make", "link", "patch", "dress"]
    path: bytes
    entry: Entry
    source: bytes = b""

    def __str__(self) -> str:
        told = f"{self.act} {self.entry.type} {quoted(self.path).decode()}"
        return f"{told} = {quoted(self.source).decode()}" if self.source else told


def graft(clean: Path, onto: Path) -> list[Step]:
    """Makes the tree at `onto` equal to the one at `clean`; returns the steps it took, none if they were equal.

    Raises `PlaceError` where something cannot be read or written; `onto` is then neither the old tree nor the new one.
    To be run as root.
    """
    steps = plan(list(entries(onto)), list(entries(clean)))
    act(steps, clean, onto)
    return steps


def plan(have: Sequence[Entry], want: Sequence[Entry]) -> list[Step]:
    """The steps from the tree `have` to the tree `want`, in their order; both as `tree.entries` lists them."""
    there, wanted = {entry.path: entry for entry in have}, {entry.path: entry for entry in want}
    claims = _claims(there, wanted)

    def stays(path: bytes) -> bool:
        """Whether the name stays what it is: a directory, or one of the names of the file that is to be here."""
        one, other = there.get(path), wanted.get(path)
        if one is None or other is None or one.type != other.type:
            return False
        return one.type == "d" or claims.get(_first(other)) == _first(one)

    removed = [Step("remove", entry.path, entry) for entry in reversed(have) if not stays(entry.path)]
    standing: dict[bytes, bytes] = {}
    for path, entry in wanted.items():
        if entry.type != "d" and stays(path):
            standing.setdefault(_first(entry), path)
    added: list[Step] = []
    changed: list[Step] = []
    for path, entry in wanted.items():
        if stays(path):
            if entry.type == "d":
                if _dress(entry) != _dress(there[path]):
                    changed.append(Step("dress", path, entry))
            elif standing[_first(entry)] == path:
                changed += _renewed(path, there[_first(there[path])], wanted[_first(entry)])
        elif entry.type != "d" and (source := standing.get(_first(entry))):
            added.append(Step("link", path, entry, source))
        else:
            standing[_first(entry)] = path
            added.append(Step("make", path, wanted[_first(entry)]))
    touched = {_parent(step.path) for step in (*removed, *added)} - {step.path for step in changed}
    # What is made in a directory changes its time: these come last.
    times = [Step("dress", path, entry) for path, entry in wanted.items() if path in touched and entry.type == "d"]
    return [*removed, *added, *changed, *times]


def _claims(there: dict[bytes, Entry], wanted: dict[bytes, Entry]) -> dict[bytes, bytes]:
    """Which file of `there` becomes which of `wanted`, both by their first names: one that has a name in common.

    Where several could, the one with the same contents does.
    """
    claims: dict[bytes, bytes] = {}
    claimed: set[bytes] = set()
    for equal in (True, False):
        for path, entry in wanted.items():
            other = there.get(path)
            if other is None or entry.type == "d" or other.type == "d":
                continue
            new, old = _first(entry), _first(other)
            if new in claims or old in claimed or not _fits(there[old], wanted[new], equal=equal):
                continue
            claims[new] = old
            claimed.add(old)
    return claims


def _fits(old: Entry, new: Entry, *, equal: bool) -> bool:
    if (old.type, old.target, old.device) != (new.type, new.target, new.device):
        return False
    return not equal or (old.size, old.sha256) == (new.size, new.sha256)


def _renewed(path: bytes, old: Entry, new: Entry) -> Iterator[Step]:
    """What makes the file that stands at `path` from `old` to `new`."""
    if (old.size, old.sha256) != (new.size, new.sha256):
        yield Step("patch", path, new)
    elif _dress(old) != _dress(new) or (new.type in "fl" and old.modified != new.modified):
        yield Step("dress", path, new)


def _dress(entry: Entry) -> tuple[object, ...]:
    return entry.mode, entry.uid, entry.gid, entry.xattrs


def _first(entry: Entry) -> bytes:
    return entry.link or entry.path


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0] or b"."


def act(steps: Sequence[Step], clean: Path, onto: Path) -> None:
    """Takes the steps on the tree at `onto`, with contents from the tree at `clean`. Raises `PlaceError`."""
    here, from_there = os.fsencode(onto) + b"/", os.fsencode(clean) + b"/"
    for step in steps:
        name = here + step.path
        try:
            if step.act == "remove":
                (os.rmdir if step.entry.type == "d" else os.unlink)(name)
            elif step.act == "link":
                os.link(here + step.source, name, follow_symlinks=False)
            else:
                if step.act == "make":
                    _make(name, step.entry, from_there + step.entry.path)
                elif step.act == "patch":
                    _patch(from_there + step.entry.path, name, step.entry)
                _wear(name, step.entry)
        except OSError as error:
            raise PlaceError(f"graft: {step}: {error.strerror}") from error


def _make(name: bytes, entry: Entry, source: bytes) -> None:
    if entry.type == "d":
        os.mkdir(name, 0o700)  # noqa: PTH102  # bytes are no Path
    elif entry.type == "l":
        os.symlink(entry.target, name)  # noqa: PTH211
    elif entry.type == "f":
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _patch(source, name, entry)
    else:
        os.mknod(name, _FORMATS[entry.type] | 0o600, os.makedev(*entry.device))


def _patch(source: bytes, name: bytes, entry: Entry) -> None:
    """Rewrites the blocks of the file `name` in which it differs from the file `source`."""
    with _opened(source, os.O_RDONLY) as clean, _opened(name, os.O_RDWR) as file:
        size = os.fstat(file).st_size
        for offset in range(0, entry.size, BLOCK):
            block = os.pread(clean, min(BLOCK, entry.size - offset), offset)
            # What is not there yet reads as zeros, once the file has its length: holes stay holes.
            there = os.pread(file, len(block), offset) if offset < size else b""
            if block != there.ljust(len(block), b"\0"):
                os.pwrite(file, block, offset)
        if os.fstat(file).st_size != entry.size:
            os.ftruncate(file, entry.size)


@contextlib.contextmanager
def _opened(name: bytes, flags: int) -> Iterator[int]:
    descriptor = os.open(name, flags | _OPEN)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _wear(name: bytes, entry: Entry) -> None:
    """Gives a file what `entry` says it wears, and takes away what it does not.

    The order counts: to write takes capabilities away, a new owner the setuid bit, and an ACL decides on the mode.
    """
    wanted = {os.fsdecode(attribute): value for attribute, value in entry.xattrs}
    for attribute in os.listxattr(name, follow_symlinks=False):
        if attribute not in wanted:
            os.removexattr(name, attribute, follow_symlinks=False)
    status = os.lstat(name)
    if (status.st_uid, status.st_gid) != (entry.uid, entry.gid):
        os.chown(name, entry.uid, entry.gid, follow_symlinks=False)
    if entry.type != "l" and stat.S_IMODE(os.lstat(name).st_mode) != entry.mode:
        os.chmod(name, entry.mode)  # noqa: PTH101
    there = os.listxattr(name, follow_symlinks=False)
    for attribute, value in wanted.items():
        if attribute not in there or value != os.getxattr(name, attribute, follow_symlinks=False):
            os.setxattr(name, attribute, value, follow_symlinks=False)
    if os.lstat(name).st_mtime_ns != entry.modified:
        os.utime(name, ns=(status.st_atime_ns, entry.modified), follow_symlinks=False)
