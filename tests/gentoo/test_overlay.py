"""Overlays from git: synced by the builder's own emaint, pinned to a commit, and told where they cannot be had."""

from __future__ import annotations

import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.command import BuildLog
from pipeline.errors import GoldspawnError
from pipeline.gentoo.folders import make_merged
from pipeline.gentoo.syncing import SYNCED, TREES
from pipeline.image import load
from tests.gentoo.definition import OVERLAY, definition
from tests.gentoo.served import git, offered

pytestmark = pytest.mark.usefixtures("made")


@dataclass(frozen=True)
class Remote:
    """A git repository that a server of ours offers: its address, and its commits, the oldest first."""

    uri: str
    commits: tuple[str, ...]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """The overlay `local` in two commits: the second one has no profile any more."""
    base = tmp_path_factory.mktemp("remote")
    work = base / "local"
    shutil.copytree(OVERLAY, work)
    commits = []
    git(work, "init", "--quiet")
    for message in ("first", "second"):
        if message == "second":
            shutil.rmtree(work / "profiles/host")
        git(work, "add", "--all")
        git(work, "commit", "--quiet", "--message", message)
        commits.append(git(work, "rev-parse", "HEAD"))
    with offered(base) as uri:
        yield Remote(f"{uri}/local", tuple(commits))


def merge(folder: Path, tars: Path, overlay: str) -> Path:
    """Merges an image of one package with this overlay; returns the tar."""
    (folder / "synced").mkdir(exist_ok=True)
    (folder / "synced/image.toml").write_text(definition("sys-apps/baselayout", local=overlay))
    with BuildLog(folder / "log") as log:
        make_merged(load(folder / "synced"), tars / "merged.tar", log=log, max_age=86400.0, slowness=3.0)
    return tars / "merged.tar"


def test_an_overlay_is_synced_and_pinned_to_its_commit(remote: Remote, tars: Path, tmp_path: Path) -> None:
    overlay = f'git = "{remote.uri}"\ncommit = "{remote.commits[0]}"'
    with tarfile.open(merge(tmp_path, tars, overlay)) as archive:
        names = archive.getnames()
    assert "./etc/gentoo-release" in names
    assert "emaint sync --repo local" in (tmp_path / "log").read_text()
    assert [path.name for path in (tars.parent / "portage/repos").glob(f"local-*/{TREES}/*")] == [remote.commits[0]]


def test_without_a_commit_the_newest_is_taken(remote: Remote, tars: Path, tmp_path: Path) -> None:
    with pytest.raises(GoldspawnError, match='"local:host/gentoo1": repository local has no such profile'):
        merge(tmp_path, tars, f'git = "{remote.uri}"')


def test_it_is_synced_again_if_its_stamp_is_old_or_of_the_future(remote: Remote, tars: Path, tmp_path: Path) -> None:
    """A clock that was ahead must not keep everybody from updates until that day."""
    synced = []
    for age in (None, 0.0, 90000.0, -90000.0):
        if age is not None:
            (stamp,) = (tars.parent / "portage/repos").glob(f"local-*/{SYNCED}")
            os.utime(stamp, (time.time() - age,) * 2)
        with pytest.raises(GoldspawnError, match="repository local has no such profile"):
            merge(tmp_path, tars, f'git = "{remote.uri}"')
        synced.append((tmp_path / "log").read_text().count("emaint sync --repo local"))
    assert synced == [1, 1, 2, 3]


def test_a_remote_that_is_gone_is_told(tars: Path, tmp_path: Path) -> None:
    with pytest.raises(GoldspawnError) as caught:
        merge(tmp_path, tars, 'git = "git://127.0.0.1:9/local"')
    told = f"{caught.value.hint} {caught.value.message}"
    assert "repository local cannot be synced: look at its address, and at the network" in told
