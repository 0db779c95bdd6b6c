"""What all Gentoo images of a place share and keep: fetched sources, binary packages, synced repositories, plans."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.build import Build


@dataclass(frozen=True)
class Store:
    """The folders, in the mounted `folder`. `packages` is a PKGDIR with its index: served as it is, it is a binhost."""

    folder: Path

    @property
    def distfiles(self) -> Path:
        return self._made("distfiles")

    @property
    def packages(self) -> Path:
        return self._made("binpkgs")

    @property
    def repositories(self) -> Path:
        return self._made("repos")

    @property
    def plans(self) -> Path:
        return self._made("plans")

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder


@contextlib.contextmanager
def opened(build: Build) -> Iterator[Store]:
    """The store, mounted while the block runs; other runs may have it mounted at the same time."""
    dataset = build.place.layout.portage
    with build.zfs.mounted(dataset, build.place.mountpoint(dataset)) as folder:
        yield Store(folder)
