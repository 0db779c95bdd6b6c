"""Fetched packages are shared: what one image fetched no other fetches again, and only what the index says is taken."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from pathlib import Path

import pytest

from pipeline.build import Wishes, open_build
from pipeline.image import load
from pipeline.place import Place
from pipeline.profile import packages
from pipeline.profile.pool import Archive, Pool, fetched, wanted
from pipeline.reuse.plan import Policy
from pipeline.user_cache import exchange
from pipeline.workspace import open_workspace
from tests.conftest import SMALL, Sessions

BYTES = b"!<arch>\ndebian-binary" * 5000


def archive(name: str = "ed_1.20_amd64.deb", content: bytes = BYTES) -> Archive:
    return Archive(name, len(content), "sha256", hashlib.sha256(content).hexdigest())


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(tmp_path / "pool")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The archives of a tree, with one package in it."""
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / archive().file).write_bytes(BYTES)
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The archives of another tree, empty."""
    folder = tmp_path / "other"
    folder.mkdir()
    return folder


def test_what_apt_would_fetch_is_read_with_its_digest() -> None:
    digest = "a" * 64
    lines = [
        "Reading package lists...",
        f"'http://mirror/pool/e/ed_1%3a2_amd64.deb' ed_1%3a2_amd64.deb 123 SHA256:{digest}",
        "'http://mirror/old.deb' old_1_all.deb 5 MD5Sum:0123",
    ]
    assert wanted(lines) == [Archive("ed_1%3a2_amd64.deb", 123, "sha256", digest)]


def test_a_package_that_was_fetched_is_there_for_the_next(pool: Pool, tree: Path, other: Path) -> None:
    assert pool.keep([archive()], tree) == [archive()]
    assert pool.take([archive()], other) == [archive()]
    assert (other / archive().file).read_bytes() == BYTES


@pytest.mark.parametrize("content", [BYTES[:-1], BYTES[:-1] + b"x", b""], ids=["cut off", "changed", "empty"])
def test_what_is_not_what_the_index_says_is_not_kept(pool: Pool, tree: Path, content: bytes) -> None:
    """A script of one image may write over what apt fetched: no other image gets that."""
    (tree / archive().file).write_bytes(content)
    assert pool.keep([archive()], tree) == []
    assert list(pool.folder.iterdir()) == []


def test_what_a_script_changed_is_kept_as_what_it_is_and_nobody_is_given_it(
    pool: Pool, tree: Path, other: Path
) -> None:
    (tree / archive().file).write_bytes(BYTES[:-1] + b"x")
    (tree / "link.deb").symlink_to("/etc/shadow")
    assert pool.empty
    kept = pool.keep(fetched(tree), tree)
    assert [(one.file, one.size) for one in kept] == [(archive().file, len(BYTES))]
    assert not pool.empty
    assert pool.take([archive()], other) == []
    assert list(other.iterdir()) == []


def test_what_was_damaged_in_the_pool_is_fetched_again(pool: Pool, tree: Path, other: Path) -> None:
    pool.keep([archive()], tree)
    (kept,) = pool.folder.iterdir()
    kept.write_bytes(BYTES[:-1] + b"x")
    assert pool.take([archive()], other) == []
    assert list(other.iterdir()) == []
    assert pool.keep([archive()], tree) == [archive()]


def test_a_link_in_a_tree_is_not_followed(pool: Pool, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(BYTES)
    (tree / archive().file).unlink()
    (tree / archive().file).symlink_to(tmp_path / "outside")
    assert pool.keep([archive()], tree) == []


def test_many_at_once_see_whole_packages_only(pool: Pool, tree: Path, tmp_path: Path) -> None:
    """Four builds take and keep the same packages while another prunes them away."""
    archives = []
    for number in range(10):
        content = os.urandom(200_000)
        archives.append(archive(f"package{number}.deb", content))
        (tree / archives[-1].file).write_bytes(content)
    wrong: list[str] = []

    def build(number: int) -> None:
        mine = tmp_path / f"build{number}"
        mine.mkdir()
        for _ in range(10):
            pool.keep(archives, tree)
            for taken in pool.take(archives, mine):
                if hashlib.sha256((mine / taken.file).read_bytes()).hexdigest() != taken.digest:
                    wrong.append(taken.file)
            if number == 0:
                pool.prune(size=600_000)

    threads = [threading.Thread(target=build, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert not list(pool.folder.glob("*.tmp"))


def test_old_packages_go_and_then_the_longest_unused(pool: Pool, tree: Path) -> None:
    now = time.time()
    archives = []
    for name, age in (("new", 10.0), ("used", 100.0), ("unused", 1000.0), ("old", 90 * 86400.0)):
        content = name.encode() * 1000
        archives.append(archive(f"{name}.deb", content))
        (tree / f"{name}.deb").write_bytes(content)
        pool.keep(archives[-1:], tree)
        os.utime(pool._path(archives[-1]), (now - age, now - age))
    (pool.folder / "half.sha256.4711abcd.tmp").write_bytes(b"left by a killed run")
    os.utime(pool.folder / "half.sha256.4711abcd.tmp", (now - 90000, now - 90000))
    pool.prune()
    assert len(list(pool.folder.iterdir())) == 3
    pool.prune(size=8000)
    assert sorted(pool.folder.iterdir()) == sorted(pool._path(one) for one in archives[:2])


def test_a_second_image_with_the_same_package_fetches_nothing(bootstrapped: Place, sessions: Sessions) -> None:
    """Their lists differ, or the second would stand on the first one's layer and install nothing."""
    sessions.image("first", SMALL + '[profile]\npackages = ["ed"]\n')
    sessions.image("second", SMALL + '[profile]\npackages = ["ed", "base-files"]\nrun = ["test -x /usr/bin/ed"]\n')
    cache = str(sessions.artifacts.parent / "cache")
    # An earlier run of these tests has left its layers in the place, and then nothing would be fetched at all.
    ended = sessions.run("-k", "profile", "--rebuild=packages", env={"GOLDSPAWN_CACHE": cache})
    assert ended.status == 0, ended.output
    logs = [(sessions.artifacts / "logs" / f"{name}.log").read_text() for name in ("first", "second")]
    assert "packages: none were fetched before" in logs[0]
    assert "packages: 1 of 1 were fetched before" in logs[1]
    assert [len(re.findall(r"^Get:\d+ .* ed ", log, re.MULTILINE)) for log in logs] == [1, 0]
    assert "Need to get 0 B" in logs[1]


def spoil(lists: Path) -> None:
    """Makes lists those of another day: they know the package `time` where it is not, and other lists than today's."""
    for file in lists.glob("*_Packages"):
        file.write_bytes(file.read_bytes().replace(b"/t/time/time_", b"/t/time/gone_"))
    for file in lists.glob("*_InRelease"):
        text = re.sub(rb"^ [0-9a-f]{8}(.*/Packages.*)$", rb" 00000000\1", file.read_bytes(), flags=re.M)
        file.write_bytes(text)
        os.utime(file, (1e9, 1e9))


def test_where_the_repositories_have_moved_on_since_the_bootstrap_its_lists_are_fetched_again(
    bootstrapped: Place, tmp_path: Path
) -> None:
    """They are not asked for as long as the bootstrap counts as what there is; then a package may be gone."""
    image = load(Sessions(tmp_path).image("behind", SMALL + '[profile]\npackages = ["time"]\n'))
    with open_build(image, bootstrapped, Wishes(tmp_path / "artifacts", exchange())) as build:
        workspace = open_workspace(
            image, bootstrapped, build.keys, build.zfs, policy=Policy(max_age=40000.0), wait=print
        )
        try:
            with workspace.fill_tree() as root:
                spoil(root / "var/lib/apt/lists")
                pool, slowness = Pool(tmp_path / "pool"), bootstrapped.slowness
                packages.install(root, ["time"], pool=pool, log=build.log, slowness=slowness, current=True)
                assert (root / "usr/bin/time").exists()
        finally:
            workspace.close()
            build.zfs.destroy(workspace.tree)
    log = (tmp_path / "artifacts/logs/behind.log").read_text()
    assert re.search(r"^E: Failed to fetch .*/gone_", log, re.M)
    assert "packages: the repositories have moved on since" in log
