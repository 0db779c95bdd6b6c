"""What all Gentoo images of a place share and keep: fetched sources, binary packages, synced repositories, plans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Store:
    """The folders, below `folder`."""

    folder: Path

    @property
    def distfiles(self) -> Path:
        return self._made("distfiles")

    def packages(self, flags: str) -> Path:
        """The PKGDIR of what is built with the same compiler flags: served as it is, it is a binhost."""
        return self._made(f"binpkgs/{flags}")

    @property
    def binhosts(self) -> Path:
        """What was fetched from binhosts, one folder each."""
        return self._made("binhosts")

    @property
    def repositories(self) -> Path:
        return self._made("repos")

    @property
    def plans(self) -> Path:
        return self._made("plans")

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
