"""One name in a file tree, with all that counts of it, and its line in the canonical text (see `tree`)."""

from __future__ import annotations

import re
import stat
from typing import NamedTuple

NAMES = {
    "d": "a directory",
    "f": "a file",
    "l": "a symbolic link",
    "c": "a character device",
    "b": "a block device",
    "p": "a fifo",
    "s": "a socket",
}
"""How a type of entry is called in a sentence."""

TYPES = {
    stat.S_IFDIR: "d",
    stat.S_IFREG: "f",
    stat.S_IFLNK: "l",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}
"""The letter for each type of file, as `stat.S_IFMT` names it."""

_PLAIN = re.compile(rb"[!-$&-<>-~]*").fullmatch
_ODD = re.compile(rb"[^!-$&-<>-~]")


class Entry(NamedTuple):
    """One name in a tree, with all that counts of it. Paths and targets are bytes, as the kernel has them."""

    path: bytes
    type: str
    mode: int
    uid: int
    gid: int
    link: bytes = b""
    """The first name of the same file, if this is not it (hard links)."""
    size: int = 0
    """Of a regular file, in bytes; 0 for a further name of one."""
    sha256: str = ""
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    modified: int = 0
    """Time of the last change of the contents, in nanoseconds since the epoch: no part of the digest (see `tree`)."""
    inode: int = 0
    changed: int = 0
    """Time of the last change of anything, in nanoseconds since the epoch, which nobody can set: no part of it, too."""

    def line(self) -> bytes:
        """The entry as a line of the canonical text (see the module)."""
        head = b"%b %04o %d %d %b" % (self.type.encode(), self.mode, self.uid, self.gid, quoted(self.path))
        if self.link:
            return head + b" link=%b\n" % quoted(self.link)
        if self.type == "f":
            head += b" size=%d sha256=%b" % (self.size, self.sha256.encode())
        elif self.type == "l":
            head += b" target=%b" % quoted(self.target)
        elif self.type in "cb":
            head += b" device=%d:%d" % self.device
        for name, value in self.xattrs:
            head += b" xattr:%b=%b" % (quoted(name), value.hex().encode())
        return head + b"\n"


def quoted(name: bytes) -> bytes:
    """A name as it stands in the canonical text: printable, without spaces, `%` and `=`."""
    if _PLAIN(name):
        return name
    return _ODD.sub(lambda odd: b"%%%02X" % odd[0][0], name)
