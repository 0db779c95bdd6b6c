"""Identity by inputs: the hashes that say whether a tree that is there is the tree that would be made.

A key covers the part of image.toml that a stage reads, the bytes and modes of the files it copies, the code of the
stage, and the key of the stage before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.image import Image, as_data

_CODE = Path(__file__).parent
_LARGE = 16 << 20
"""Bytes above which a file (a tarball of an operating system) is known by size and time: to read it would take seconds
of every run. Where it matters, image.toml has its digest."""


@dataclass(frozen=True)
class Keys:
    """The keys of one image, hexadecimal: of its bootstrap, of the sets merged into that and of the root that builds
    them ("" where the bootstrap is whole by itself), and of its sealed candidate (16, 16, 16 and 64 characters).
    """

    bootstrap: str
    cycles: str
    builder: str
    candidate: str

    @property
    def of_tars(self) -> tuple[str, str, str]:
        """The keys of what can be made as a tar: bootstrap, builder, and the bootstrap with the sets merged."""
        return self.bootstrap, self.builder, self.cycles


def keys(image: Image) -> Keys:
    """Computes the keys of an image from its definition, its files and our code. Reads files, changes nothing."""
    settings = {
        "bootstrap": as_data(image.bootstrap),
        "compression": image.artifact.compression,
        "files": [_file_digest(image.folder / name) for name in image.bootstrap.files],
        "code": _code_digest("bootstrap"),
    }
    bootstrap = _digest(settings)[:16]
    cycles = builder = ""
    if not image.bootstrap.whole:
        builder = _digest([_file_digest(image.folder / name) for name in image.bootstrap.builder_files])[:16]
        merged = {
            "bootstrap": bootstrap,
            "builder": builder,
            "folders": [_folder_digest(image.folder / name) for name in image.bootstrap.folders],
            "code": [_code_digest("portage"), _code_digest("gentoo")],
        }
        cycles = _digest(merged)[:16]
    profile = {
        "bootstrap": cycles or bootstrap,
        "name": image.name,
        "profile": as_data(image.profile),
        "root": _folder_digest(image.root) if image.root is not None else [],
        "code": _code_digest("profile"),
    }
    return Keys(bootstrap, cycles, builder, _digest(profile))


def _digest(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


@lru_cache
def _code_digest(package: str) -> str:
    files = sorted((_CODE / package).rglob("*.py"))
    return _digest([(path.name, _file_digest(path)) for path in files])


def _file_digest(path: Path) -> str:
    state = path.stat()
    if state.st_size > _LARGE:
        return f"{state.st_size} {state.st_mtime_ns}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _folder_digest(root: Path) -> list[tuple[str, ...]]:
    return sorted(_entries(root))


def _entries(root: Path) -> Iterable[tuple[str, ...]]:
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            yield name, "link", str(path.readlink())
        else:
            mode = oct(path.stat().st_mode)
            yield name, mode, _file_digest(path) if path.is_file() else ""
