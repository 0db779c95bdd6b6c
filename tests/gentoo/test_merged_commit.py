"""Which commit of an overlay is recorded: the one that was merged, not the newest there is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.command import BuildLog
from pipeline.image import load
from pipeline.reuse.world import Source, moved
from pipeline.tarball import MERGED, drawn_from, make
from tests.gentoo.definition import OVERLAY, definition
from tests.gentoo.served import git, offered


@dataclass(frozen=True)
class Overlay:
    """The overlay `local` in a repository of git, which a server of ours offers at `uri`."""

    work: Path
    uri: str

    def commit(self, text: str) -> str:
        (self.work / "notes").write_text(text)
        git(self.work, "add", "--all")
        git(self.work, "commit", "--quiet", "--message", text)
        return git(self.work, "rev-parse", "HEAD")


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Overlay]:
    work = tmp_path / "served/local"
    shutil.copytree(OVERLAY, work)
    git(work, "init", "--quiet")
    with offered(work.parent) as uri:
        yield Overlay(work, f"{uri}/local")


@pytest.mark.usefixtures("made")
def test_what_was_merged_is_recorded_also_where_nobody_looked_for_something_newer(
    overlay: Overlay, tmp_path: Path
) -> None:
    def merged(name: str) -> tuple[Source, ...]:
        folder = tmp_path / name
        folder.mkdir()
        conf = f'make_conf = {{ IMAGE = "{name}" }}'
        text = definition("sys-apps/baselayout", local=f'git = "{overlay.uri}"', more=conf)
        (folder / "image.toml").write_text(text)
        with BuildLog(tmp_path / "log") as log:
            tars = tmp_path / "exchange/tars"
            return drawn_from(make(load(folder), MERGED, folder=tars, max_age=86400.0, log=log, slowness=3.0))

    first = overlay.commit("first")
    world = merged("one")
    assert [(one.uri, one.state) for one in world if one.kind == "git"] == [(overlay.uri, first)]
    assert moved(world) == []
    overlay.commit("second")
    world = merged("two")  # young enough: it is not synced
    assert [one.state for one in world if one.kind == "git"] == [first]
    assert moved(world) == [overlay.uri], "the second commit is hidden from the next run"
