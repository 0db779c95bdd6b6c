"""What a build host gets of this machine: our code, the images, and what pytest reads around them.

Each file comes to the same path there, below a folder of its own, which is known by a key over all of them: what has
not changed is not sent again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import InputError, PlaceError

LIMIT = 4 << 30
"""Bytes above which somebody has named a folder by mistake, such as a home directory."""

_LEFT_OUT = {".git", ".venv", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


class Freight:
    """The files below `roots` (folders and files, absolute), but for those in `without`; `code` is where ours are."""

    def __init__(self, code: Path, roots: Iterable[Path], *, without: Iterable[Path] = ()) -> None:
        self.code = code
        self.roots = tuple(sorted({code / "pipeline", code / "stages", *(root for root in roots if root.exists())}))
        self._without = set(without)
        self.paths = tuple(sorted({path for root in self.roots for path in self._below(root)}))
        if (size := sum(path.lstat().st_size for path in self.paths)) > LIMIT:
            raise InputError(
                f"{size / 1e9:.1f} GB would be sent to each build host, of {', '.join(map(str, self.roots))}",
                hint="name the images with --images DIR, in a folder that holds no more than them",
            )
        self.key = self._key()

    def holds(self, path: Path) -> bool:
        """Whether a path is part of it, or leads to a part of it."""
        return any(root.is_relative_to(path) or path.is_relative_to(root) for root in self.roots)

    @contextlib.contextmanager
    def packed(self) -> Iterator[int]:
        """A file descriptor from which all of it comes as a tar. Raises `PlaceError` if that fails."""
        names = b"".join(os.fsencode(str(path).lstrip("/")) + b"\0" for path in self.paths)
        listed = os.memfd_create("goldspawn-freight")
        # posix: to the nanosecond, which tar alone would cut
        argv = ["tar", "--create", "--format=posix", "--numeric-owner", "--no-recursion", "--directory=/", "--null",
                f"--files-from=/proc/self/fd/{listed}", "--file=-"]  # fmt: skip
        try:
            os.write(listed, names)
            os.lseek(listed, 0, os.SEEK_SET)
            with subprocess.Popen(argv, stdout=subprocess.PIPE, pass_fds=[listed]) as process:
                assert process.stdout is not None
                yield process.stdout.fileno()
            if process.returncode != 0:
                raise PlaceError(f"what a build host needs could not be packed (tar: status {process.returncode})")
        finally:
            os.close(listed)

    def _below(self, root: Path) -> Iterator[Path]:
        if root in self._without or root.name in _LEFT_OUT:
            return
        yield root
        if root.is_dir() and not root.is_symlink():
            for path in root.iterdir():
                yield from self._below(path)

    def _key(self) -> str:
        digest = hashlib.sha256()
        for path in self.paths:
            state = path.lstat()
            kept = (state.st_mode, state.st_size, state.st_mtime_ns) if not path.is_dir() else (state.st_mode,)
            link = path.readlink() if path.is_symlink() else ""
            digest.update(f"{path}\0{kept}\0{link}\0".encode(errors="surrogateescape"))
        return digest.hexdigest()[:24]
