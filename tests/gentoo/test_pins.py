"""Overlays from git over the life of an image: pins that move, go and come back, of several images, after kills."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.errors import GoldspawnError
from pipeline.gentoo.host import HostPortage
from pipeline.gentoo.merge import merge_sets
from pipeline.gentoo.syncing import CLONE, SYNCED, TREES
from pipeline.image import load
from tests.gentoo.served import git, offered
from tests.portage.world import World


@dataclass
class Team:
    """The repository `team` behind a git server; each of its commits has another `profiles/say`."""

    folder: Path
    uri: str
    host: HostPortage

    def commit(self, text: str) -> str:
        """A commit more, with that text; returns its id."""
        (self.folder / "profiles/say").write_text(text)
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--message", text)
        return git(self.folder, "rev-parse", "HEAD")

    def image(self, commit: str | None, name: str = "shop", *, uri: str = "", max_age: float = 0.0) -> HostPortage:
        """The workshop of an image that takes it from there, pinned or not."""
        folder = self.host.image.folder
        if name != folder.name:
            shutil.copytree(folder, folder.with_name(name), dirs_exist_ok=True)
        file = folder.with_name(name) / "image.toml"
        text = file.read_text().split('[[bootstrap.repositories]]\nname = "team"')[0]
        pin = f'commit = "{commit}"\n' if commit is not None else ""
        file.write_text(f'{text}[[bootstrap.repositories]]\nname = "team"\ngit = "{uri or self.uri}"\n{pin}')
        return replace(self.host, image=load(file.parent), max_age=max_age)

    def said(self, commit: str | None, name: str = "shop", *, uri: str = "", max_age: float = 0.0) -> str:
        """What an image that is built now finds in it."""
        return text_of(self.image(commit, name, uri=uri, max_age=max_age))

    @property
    def stores(self) -> list[Path]:
        return [path for path in self.host.store.repositories.glob("team-*") if path.is_dir()]


def text_of(workshop: HostPortage) -> str:
    return (workshop.repositories["team"] / "profiles/say").read_text()


def repository(folder: Path) -> Path:
    for path, text in {"profiles/repo_name": "team\n", "metadata/layout.conf": "masters = tiny\n"}.items():
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(text)
    git(folder, "init", "--quiet")
    return folder


@pytest.fixture
def team(host: HostPortage, tmp_path: Path) -> Iterator[Team]:
    folder = repository(tmp_path / "served/team")
    with offered(tmp_path / "served") as uri:
        yield Team(folder, f"{uri}/team", host)


def syncs(world: World) -> int:
    return sum(line.endswith("emaint sync --repo team") for line in world.lines)


def test_a_pin_moves_on_goes_and_comes_back(team: Team, world: World) -> None:
    old = team.commit("one")
    assert team.said(old) == "one"
    newer = team.commit("two")
    assert team.said(newer) == "two"
    assert team.said(None) == "two"
    other = team.commit("three")
    assert team.said(None) == "three"
    assert team.said(other) == "three"
    count = syncs(world)
    assert team.said(old) == "one"
    assert syncs(world) == count, "what is at hand is not fetched again"


def test_a_pin_that_is_older_than_the_newest_that_was_synced(team: Team) -> None:
    old = team.commit("one")
    team.commit("two")
    assert team.said(None) == "two"
    assert team.said(old) == "one"


@pytest.mark.parametrize("max_age", [math.inf, 3600.0])
def test_without_its_pin_an_image_is_of_the_newest_also_if_nobody_looks(team: Team, max_age: float) -> None:
    old = team.commit("one")
    team.commit("two")
    assert team.said(old, max_age=max_age) == "one"
    assert team.said(None, max_age=max_age) == "two"


def test_a_pin_that_is_no_commit_is_told(team: Team) -> None:
    team.commit("one")
    lost = "0123456789" * 4
    with pytest.raises(GoldspawnError) as caught:
        team.said(lost)
    assert caught.value.message == f"repository team: {team.uri} has no commit {lost}"
    assert caught.value.hint == "`commit` of repository team in image.toml"


def test_a_history_that_was_rewritten(team: Team) -> None:
    team.commit("one")
    assert team.said(None) == "one"
    pinned = team.commit("two")
    assert team.said(pinned) == "two"
    git(team.folder, "checkout", "--quiet", "--orphan", "again")
    newest = team.commit("three")
    git(team.folder, "branch", "--quiet", "--force", "master", newest)
    git(team.folder, "checkout", "--quiet", "master")
    assert (team.said(None), team.said(newest), team.said(pinned)) == ("three", "three", "two")


def test_two_images_at_once_each_merge_from_their_own_commit(team: Team, world: World) -> None:
    world.library("font")
    old = team.commit("one")
    new = team.commit("two")
    images = [team.image(commit, f"image-{number}") for number, commit in enumerate([old, new, None] * 2)]
    with ThreadPoolExecutor(len(images)) as pool:
        assert list(pool.map(text_of, images)) == ["one", "two", "two"] * 2
    first = team.image(old, "first")
    with first.target(world.target):
        assert text_of(team.image(new, "second")) == "two"
        assert text_of(first) == "one"
    merge_sets(first, world.target)


def test_images_that_give_one_name_to_two_addresses(team: Team, tmp_path: Path) -> None:
    team.commit("ours")
    theirs = Team(repository(tmp_path / "served/theirs"), team.uri.replace("team", "theirs"), team.host)
    theirs.commit("theirs")
    for max_age in (0.0, math.inf):
        assert team.said(None, "first", max_age=max_age) == "ours"
        assert team.said(None, "second", uri=theirs.uri, max_age=max_age) == "theirs"


def test_a_tree_that_nobody_uses_any_more_is_removed_and_one_in_use_is_not(team: Team, world: World) -> None:
    commits = [team.commit(text) for text in ("one", "two", "three", "four")]
    used = team.image(commits[0], "first")
    with used.target(world.target):
        assert team.said(commits[1]) == "two"
        for tree in team.stores[0].glob(f"{TREES}/*"):
            os.utime(tree, (time.time() - 2 * 86400,) * 2)
        assert team.said(commits[2]) == "three"
        assert text_of(used) == "one"
        assert {path.name for path in team.stores[0].glob(f"{TREES}/*")} == {commits[0], commits[2]}
    assert team.said(commits[1]) == "two"


def leave_half_a_clone(place: Path) -> None:
    """As a first `git clone` that is killed leaves it: nothing was synced yet."""
    shutil.rmtree(place / CLONE)
    shutil.rmtree(place / TREES)
    (place / SYNCED).unlink()
    git(place, "init", "--quiet", CLONE)


def leave_locks(place: Path) -> None:
    """As a git that is killed in the middle of a fetch leaves it."""
    for name in ("index.lock", "shallow.lock", "HEAD.lock", "refs/remotes/origin/master.lock"):
        (place / CLONE / ".git" / name).touch()


def leave_half_of_all(place: Path) -> None:
    """As one that is killed while it puts a new clone in the place of the old one, and makes a tree."""
    (place / CLONE).rename(place / "fresh")
    (tree,) = (place / TREES).iterdir()
    tree.rename(place / TREES / ".making")


@pytest.mark.parametrize("kill", [leave_half_a_clone, leave_locks, leave_half_of_all])
@pytest.mark.parametrize("pinned", [True, False])
def test_after_a_kill_the_next_run_just_works(team: Team, kill: object, pinned: bool) -> None:
    commit = team.commit("one")
    assert team.said(commit if pinned else None) == "one"
    assert callable(kill)
    kill(team.stores[0])
    commit = team.commit("two")
    assert team.said(commit if pinned else None) == "two"


def test_a_remote_that_is_gone_costs_nothing_that_is_there(team: Team) -> None:
    team.commit("one")
    assert team.said(None) == "one"
    team.folder.rename(team.folder.with_name("gone"))
    with pytest.raises(GoldspawnError, match="git clone error"):
        team.said(None)
    assert team.said(None, max_age=math.inf) == "one"
