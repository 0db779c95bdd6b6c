"""Digests of files. A large one is read once, and its digest is remembered for as long as it is the same file.

That is: the one of this path, with the same inode, size, and times of the last change of content and inode. Tools set
the former time as they like (`rsync --times`), but nobody can set the latter (inode(7), st_ctime).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from pipeline import atomic
from pipeline.errors import PlaceError
from pipeline.user_cache import exchange

_LARGE = 16 << 20
"""Bytes above which a file is not read in every run: a tarball of an operating system takes seconds."""

_SETTLED = 2.0
"""Seconds after its last change from which on a file cannot change once more within one tick of its clock."""


def of_file(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits; "" where there is none, of which the stage that needs it tells."""
    if not path.is_file():
        return ""
    state = path.stat()
    if state.st_size <= _LARGE:
        return _read(path)
    name = str(path.absolute())
    same: list[str | int] = [name, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    memory = exchange() / "digests" / hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    with contextlib.suppress(OSError, ValueError):
        told = json.loads(memory.read_text())
        if told[:-1] == same:
            return str(told[-1])
    digest = _read(path)
    if time.time() - state.st_ctime > _SETTLED and path.stat().st_ctime_ns == state.st_ctime_ns:
        with contextlib.suppress(PlaceError):  # then it is read again
            atomic.write(memory, json.dumps([*same, digest]))
    return digest


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
