"""What image.toml names and no mirror has: a builder root with Portage, and an ebuild repository."""

from __future__ import annotations

from pathlib import Path

from pipeline.command import BuildLog
from tests.gentoo import builder, repository


def pytest_goldspawn_prepare(folder: Path, log: BuildLog) -> None:
    repository.write(folder / "made/tiny", log=log)
    builder.make(folder / "made/builder.tar.zst", log=log)
