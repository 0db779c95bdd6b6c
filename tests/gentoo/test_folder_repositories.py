"""Repositories that the image's own portage/repos.conf names: synced, or taken from this machine."""

from __future__ import annotations

import math
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.command import BuildLog
from pipeline.errors import GoldspawnError, InputError
from pipeline.gentoo.folders import make_merged
from pipeline.gentoo.host import HostPortage
from pipeline.gentoo.merge import merge_sets
from pipeline.image import load
from pipeline.portage.installed import installed
from pipeline.reuse.inputs import keys
from tests.gentoo.conftest import changed
from tests.gentoo.served import git, offered
from tests.portage.world import World

EBUILD = """\
EAPI=8
DESCRIPTION="x"
SLOT=0
KEYWORDS="amd64"
S="${WORKDIR}"
src_install() { insinto /usr/share; newins - NAME <<< "here"; }
"""


def overlay(folder: Path, name: str, profiles: str = "profile-formats = portage-2") -> Path:
    """A repository of that name with the package app-misc/NAME, and a profile of it."""
    for path, text in {
        "profiles/repo_name": f"{name}\n",
        "metadata/layout.conf": f"masters = tiny\nthin-manifests = true\n{profiles}\n",
        "profiles/host/eapi": "8\n",
        "profiles/host/parent": "tiny:BASE\n",
        "profiles/host/packages": f"*app-misc/{name}\n",
        f"app-misc/{name}/{name}-1.ebuild": EBUILD.replace("NAME", name),
    }.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a repository `team` behind a git server, and its work tree."""
    folder = overlay(tmp_path / "served/team", "team")
    git(folder, "init", "--quiet")
    with offered(tmp_path / "served") as uri:
        yield f"{uri}/team", folder


def commit(folder: Path, base: str) -> None:
    (folder / "profiles/host/parent").write_text(f"tiny:{base}\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "x")


def naming(host: HostPortage, world: World, text: str, profile: str) -> HostPortage:
    file = host.image.folder / "portage/repos.conf"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return changed(host, world, ("sets =", 'portage = "portage"\nsets ='), ("local:host/shop", profile))


def test_one_from_git_is_synced_and_its_profile_is_merged(
    host: HostPortage, world: World, served: tuple[str, Path]
) -> None:
    """Its location is where the machine will have it: here there is none."""
    uri, folder = served
    commit(folder, "base")
    section = f"[team]\nlocation = /srv/elsewhere/team\nsync-type = git\nsync-uri = {uri}\n"
    merge_sets(naming(host, world, section, "team:host"), world.target)
    assert set(installed(world.target)) == {"app-misc/team-1"}
    assert sum(line.endswith("emaint sync --repo team") for line in world.lines) == 1
    link = world.target / "etc/portage/make.profile"
    assert str(link.readlink()) == "/srv/elsewhere/team/profiles/host"


def test_a_folder_of_this_machine_is_taken_and_is_an_input(host: HostPortage, world: World, tmp_path: Path) -> None:
    mine = overlay(tmp_path / "mine", "mine")
    (mine / "profiles/host/parent").write_text("tiny:base\n")
    workshop = naming(host, world, f"[mine]\nlocation = {mine}\nauto-sync = no\n", "mine:host")
    merge_sets(workshop, world.target)
    assert set(installed(world.target)) == {"app-misc/mine-1"}
    before = keys(workshop.image).cycles
    (mine / "app-misc/mine/mine-1.ebuild").write_text(EBUILD)
    assert keys(workshop.image).cycles != before


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("/srv/nowhere", "portage/repos.conf of the image: repository mine: there is no /srv/nowhere"),
        ("overlay", "repos.conf: repository mine: its location is no absolute path: overlay"),
    ],
)
def test_one_that_cannot_be_had_is_told(location: str, text: str, host: HostPortage, world: World) -> None:
    workshop = naming(host, world, f"[mine]\nlocation = {location}\n", "mine:host")
    with pytest.raises(InputError) as caught:
        merge_sets(workshop, world.target)
    assert caught.value.message == text


def test_one_whose_commits_must_be_signed_by_a_key_of_the_folder(
    host: HostPortage, world: World, served: tuple[str, Path]
) -> None:
    uri, folder = served
    commit(folder, "base")
    (host.image.folder / "portage/keys").mkdir(parents=True)
    (host.image.folder / "portage/keys/team.asc").write_text("no key at all\n")
    section = f"[team]\nlocation = /srv/team\nsync-type = git\nsync-uri = {uri}\n"
    verify = "sync-git-verify-commit-signature = yes\nsync-openpgp-key-path = /etc/portage/keys/team.asc\n"
    assert naming(host, world, section, "team:host").repositories["team"].is_dir()
    (host.image.folder / "portage/repos.conf").write_text(section + verify)
    with pytest.raises(GoldspawnError, match="repository team cannot be synced") as caught:
        assert HostPortage.find_repositories(changed(host, world))
    assert f"{host.image.folder}/portage/keys/team.asc" in "\n".join(world.lines) + str(caught.value)


def test_a_builder_has_both_kinds(
    made: Path, tars: Path, tmp_path: Path, served: tuple[str, Path], world: World
) -> None:
    uri, folder = served
    commit(folder, "default")
    (folder / "profiles/host/packages").write_text("*app-misc/team\n*app-misc/mine\n")
    git(folder, "commit", "--quiet", "--all", "--message", "x")
    mine = overlay(tmp_path / "mine", "mine")
    (mine / "profiles/host/parent").write_text("tiny:default\n")
    image = tmp_path / "image"
    (image / "portage/repos.conf").mkdir(parents=True)
    (image / "portage/repos.conf/team.conf").write_text(
        f"[team]\nlocation = /srv/team\nsync-type = git\nsync-uri = {uri}\n"
    )
    (image / "portage/repos.conf/mine.conf").write_text(f"[mine]\nlocation = {mine}\n")
    (image / "image.toml").write_text(f"""
[bootstrap]
method = "gentoo"
profile = "team:host"
main_repository = "tiny"
sets = ["app-misc/team", "app-misc/mine"]
portage = "portage"
builder = {{ tarball = "{made}/builder.tar.zst" }}
[[bootstrap.repositories]]
name = "tiny"
folder = "{made}/tiny"
""")
    with BuildLog(tmp_path / "image.log") as log:
        make_merged(load(image), tars / "merged.tar", log=log, max_age=math.inf, slowness=3.0)
    with tarfile.open(tars / "merged.tar") as archive:
        names = archive.getnames()
        link = archive.getmember("./etc/portage/make.profile").linkname
    assert {"./usr/share/team", "./usr/share/mine"} <= set(names)
    assert link == "/srv/team/profiles/host"
    assert "emaint sync --repo team" in (tmp_path / "image.log").read_text()
