"""When a plan that was made before is recalled: for the same repositories and the same configuration, and no other."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.gentoo.host import HostPortage
from pipeline.gentoo.repositories import state
from pipeline.reuse.inputs import keys
from tests.gentoo.conftest import changed
from tests.gentoo.served import git
from tests.portage.world import World


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    folder = tmp_path / "overlay"
    for path in (
        "profiles/repo_name", "profiles/host/shop/package.use", "eclass/app.eclass", "app-misc/app/app-1.ebuild",
        "app-misc/app/files/fix.patch", "metadata/layout.conf",
    ):  # fmt: skip
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("one\n")
    return folder


def commit(folder: Path) -> None:
    git(folder, "init", "--quiet")
    (folder / ".gitignore").write_text("*.local\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a flag of the profile": lambda folder: (folder / "profiles/host/shop/package.use").write_text("two\n"),
    "an eclass": lambda folder: (folder / "eclass/app.eclass").write_text("two\n"),
    "an ebuild": lambda folder: (folder / "app-misc/app/app-1.ebuild").write_text("two\n"),
    "a file that goes": lambda folder: (folder / "app-misc/app/files/fix.patch").unlink(),
    "a file that comes": lambda folder: (folder / "profiles/host/shop/package.mask").write_text("x\n"),
    "a file that git ignores": lambda folder: (folder / "profiles/host/shop/more.local").write_text("x\n"),
    "a link": lambda folder: (folder / "profiles/host/other").symlink_to("shop"),
}


@pytest.mark.parametrize("of_git", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_in_a_folder_makes_it_another(change: str, of_git: bool, overlay: Path) -> None:
    if of_git:
        commit(overlay)
    before = state(overlay)
    CHANGES[change](overlay)
    assert state(overlay) != before


@pytest.mark.parametrize("of_git", [True, False])
def test_a_copy_with_other_times_is_the_same(of_git: bool, overlay: Path, tmp_path: Path) -> None:
    if of_git:
        commit(overlay)
        git(tmp_path, "clone", "--quiet", str(overlay), "copy")
    else:
        shutil.copytree(overlay, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*.ebuild"):
        os.utime(path, (time.time() - 5000,) * 2)
    assert state(tmp_path / "copy") == state(overlay)


def test_a_commit_more_makes_it_another(overlay: Path) -> None:
    commit(overlay)
    before = state(overlay)
    (overlay / "eclass/app.eclass").write_text("two\n")
    git(overlay, "commit", "--quiet", "--all", "--message", "second")
    assert state(overlay) != before


def test_a_tree_that_says_when_it_is_from_is_not_read(overlay: Path) -> None:
    (overlay / "metadata/timestamp.chk").write_text("Fri, 27 Nov 2026 10:00:00 +0000\n")
    assert state(overlay) == "Fri, 27 Nov 2026 10:00:00 +0000"


def test_the_images_own_folder_counts(host: HostPortage, world: World) -> None:
    file = host.image.folder / "portage/package.use/flags"
    file.parent.mkdir(parents=True)
    file.write_text("dev-libs/font -x\n")
    mine = changed(host, world, ("sets =", 'portage = "portage"\nsets ='))
    before = mine.memory().key
    assert mine.memory().key == before
    file.write_text("dev-libs/font x\n")
    assert mine.memory().key != before


def test_the_images_own_folder_is_an_input_of_the_tree_that_it_is_copied_into(host: HostPortage, world: World) -> None:
    file = host.image.folder / "portage/make.conf"
    file.parent.mkdir()
    file.write_text('USE="x"\n')
    image = changed(host, world, ("sets =", 'portage = "portage"\nsets =')).image
    before = keys(image)
    file.write_text('USE="-x"\n')
    after = keys(image)
    assert before.bootstrap != after.bootstrap
    assert before.cycles != after.cycles
