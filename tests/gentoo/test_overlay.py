"""Overlays from git: synced by the builder's own emaint, pinned to a commit, and told where they cannot be had."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
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
from tests.gentoo import builder, repository

MADE = Path(__file__).parent.parent / "images/gentoo1/made"
OVERLAY = Path(__file__).parent / "overlay"


@dataclass(frozen=True)
class Remote:
    """A git repository that a server of ours offers: its address, and its commits, the oldest first."""

    uri: str
    commits: tuple[str, ...]


def git(folder: Path, *arguments: str) -> str:
    who = {"GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x@x", "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x@x"}
    argv = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env={**os.environ, **who}, timeout=60)
    return done.stdout.strip()


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


@contextlib.contextmanager
def offered(base: Path) -> Iterator[str]:
    """A git server for the repositories in a folder: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    daemon = subprocess.Popen(
        ["git", "daemon", "--export-all", f"--base-path={base}", "--listen=127.0.0.1", f"--port={port}", "--reuseaddr"],
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
        assert time.monotonic() < deadline and daemon.poll() is None, "git daemon does not listen"
        time.sleep(0.05)
    try:
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(daemon.pid, 15)
        daemon.wait(10)


@pytest.fixture(scope="module")
def made() -> Path:
    """The folder with the builder root and the repository `tiny`."""
    repository.write(MADE / "tiny")
    builder.make(MADE / "builder.tar.zst")
    return MADE


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    folder = tmp_path / "exchange/tars"
    folder.mkdir(parents=True)
    return folder


def merge(folder: Path, made: Path, tars: Path, overlay: str) -> Path:
    """Merges an image of one package with this overlay; returns the tar."""
    (folder / "synced").mkdir(exist_ok=True)
    (folder / "synced/image.toml").write_text(f"""
[bootstrap]
method = "gentoo"
profile = "local:host/gentoo1"
main_repository = "tiny"
sets = ["sys-apps/baselayout"]
builder = {{ tarball = "{made}/builder.tar.zst" }}
[[bootstrap.repositories]]
name = "tiny"
folder = "{made}/tiny"
[[bootstrap.repositories]]
name = "local"
{overlay}
""")
    with BuildLog(folder / "log") as log:
        make_merged(load(folder / "synced"), tars / "merged.tar", log=log, max_age=86400.0, slowness=3.0)
    return tars / "merged.tar"


def test_an_overlay_is_synced_and_pinned_to_its_commit(remote: Remote, made: Path, tars: Path, tmp_path: Path) -> None:
    overlay = f'git = "{remote.uri}"\ncommit = "{remote.commits[0]}"'
    with tarfile.open(merge(tmp_path, made, tars, overlay)) as archive:
        names = archive.getnames()
    assert "./etc/gentoo-release" in names
    assert "emaint sync --repo local" in (tmp_path / "log").read_text()
    assert [path.name for path in (tars.parent / "portage/repos").glob(f"local-*/{TREES}/*")] == [remote.commits[0]]


def test_without_a_commit_the_newest_is_taken(remote: Remote, made: Path, tars: Path, tmp_path: Path) -> None:
    with pytest.raises(GoldspawnError, match='"local:host/gentoo1": repository local has no such profile'):
        merge(tmp_path, made, tars, f'git = "{remote.uri}"')


def test_it_is_synced_again_if_its_stamp_is_old_or_of_the_future(
    remote: Remote, made: Path, tars: Path, tmp_path: Path
) -> None:
    """A clock that was ahead must not keep everybody from updates until that day."""
    synced = []
    for age in (None, 0.0, 90000.0, -90000.0):
        if age is not None:
            (stamp,) = (tars.parent / "portage/repos").glob(f"local-*/{SYNCED}")
            os.utime(stamp, (time.time() - age,) * 2)
        with pytest.raises(GoldspawnError, match="repository local has no such profile"):
            merge(tmp_path, made, tars, f'git = "{remote.uri}"')
        synced.append((tmp_path / "log").read_text().count("emaint sync --repo local"))
    assert synced == [1, 1, 2, 3]


def test_a_remote_that_is_gone_is_told(made: Path, tars: Path, tmp_path: Path) -> None:
    with pytest.raises(GoldspawnError) as caught:
        merge(tmp_path, made, tars, 'git = "git://127.0.0.1:9/local"')
    told = f"{caught.value.hint} {caught.value.message}"
    assert "repository local cannot be synced: look at its address, and at the network" in told
