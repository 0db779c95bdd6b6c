"""A host that is a Gentoo: its own emerge merges, with its own repositories. The real Portage plays the host."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.gentoo.host import HostPortage, here
from pipeline.gentoo.merge import merge_packages, merge_sets, plan
from pipeline.image import load
from pipeline.portage import Unbreakable
from pipeline.portage.installed import installed
from tests.portage.world import World

LINK = Path("etc/portage/make.profile")


def test_only_a_gentoo_has_an_emerge_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "emerge").write_text("#!/bin/sh\n")
    (tmp_path / "emerge").chmod(0o755)
    release = tmp_path / "gentoo-release"
    assert here(release, str(tmp_path)) is None
    release.touch()
    assert here(release, str(tmp_path)) == str(tmp_path / "emerge")
    assert here(release, os.devnull) is None


def test_the_sets_are_merged_by_the_hosts_emerge(host: HostPortage, world: World) -> None:
    """With a cycle on the way; the profile and a package come from the image's overlay, the rest from the host's."""
    world.library("font", must=["shape"])
    world.library("shape", may=["font"], system=False)
    world.ebuild("app-misc/idle")
    assert len(plan(host, world.target).breaks) == 1
    outcome = merge_sets(host, world.target)
    assert [str(step) for step in outcome.breaks] == ["merge dev-libs/shape-1 with --nodeps"]
    assert set(installed(world.target)) == {"app-misc/shop-1", "dev-libs/font-1", "dev-libs/shape-1"}
    assert world.needed("shape") == {"font"}
    assert any("/copy " in line for line in world.lines), "each break is tried in a copy first"
    # What builds it is the host's, as with an emerge typed by hand; and so are the binary packages.
    assert set(installed(world.builder)) == {"dev-util/gen-1"}
    assert list(world.packages.glob("app-misc/shop/*"))
    # The machine looks for its profile where it will have it.
    assert str((world.target / LINK).readlink()) == "/var/db/repos/local/profiles/host/shop"
    merge_packages(host, world.target, ["app-misc/idle"])
    assert "app-misc/idle-1" in installed(world.target)
    assert (world.target / "var/lib/portage/world").read_text() == "app-misc/idle\n"


def test_a_profile_that_no_repository_of_the_host_has(host: HostPortage, world: World) -> None:
    image = host.image.folder / "image.toml"
    image.write_text(image.read_text().replace("local:host/shop", "tiny:bose"))
    lost = replace(host, image=load(host.image.folder))
    with pytest.raises(InputError, match='"tiny:bose": repository tiny has no such profile') as caught:
        merge_sets(lost, world.target)
    assert caught.value.hint == "the nearest: tiny:base"


def test_nothing_is_merged_half_into_the_host(host: HostPortage, world: World) -> None:
    """A cycle among its own tools is the operator's to open: --nodeps there could cost them the host."""
    world.ebuild("dev-util/gen", bdepend="dev-util/mk")
    world.ebuild("dev-util/mk", bdepend="dev-util/gen")
    world.library("font")
    with pytest.raises(Unbreakable, match="dev-util/gen-1"):
        merge_sets(host, world.target)
    assert not installed(world.builder)
