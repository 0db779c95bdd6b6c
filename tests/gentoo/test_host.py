"""A host that is a Gentoo: its own emerge merges, with its own repositories. The real Portage plays the host."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.bootstrap.gentoo import Gentoo
from pipeline.command import BuildLog
from pipeline.errors import InputError
from pipeline.gentoo.host import HostPortage, here
from pipeline.gentoo.merge import merge_packages, merge_sets, plan
from pipeline.gentoo.store import Store
from pipeline.image import load
from pipeline.portage import configuration
from pipeline.portage.installed import installed
from tests.portage.conftest import world  # noqa: F401
from tests.portage.world import FEATURES, World

LINK = Path("etc/portage/make.profile")


@pytest.fixture
def host(world: World, tmp_path: Path) -> HostPortage:  # noqa: F811
    """A workshop that is a host with the repository `tiny`, for an image with an overlay of its own."""
    world.ebuild("dev-util/gen")
    overlay = tmp_path / "images/shop/overlay"
    for path, text in {
        "metadata/layout.conf": "masters = tiny\nthin-manifests = true\nprofile-formats = portage-2 profile-set\n",
        "profiles/repo_name": "local\n",
        "profiles/host/shop/eapi": "8\n",
        "profiles/host/shop/parent": "tiny:base\n",
        "profiles/host/shop/packages": "*app-misc/shop\n",
        "app-misc/shop/shop-1.ebuild": 'EAPI=8\nDESCRIPTION="x"\nSLOT=0\nKEYWORDS="amd64"\nLICENSE="Free"\n'
        'S="${WORKDIR}"\nBDEPEND="dev-util/gen"\nRDEPEND="dev-libs/font"\n'
        'src_install() { insinto /usr/share; newins - shop <<< "open"; }\n',
    }.items():
        file = overlay / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "images/shop/image.toml").write_text(f"""
[bootstrap]
method = "gentoo"
profile = "local:host/shop"
sets = ["@system"]
make_conf = {{ FEATURES = "{FEATURES}", ACCEPT_LICENSE = "*" }}
[[bootstrap.repositories]]
name = "local"
folder = "overlay"
""")
    (world.builder / "etc/gentoo-release").write_text("Gentoo\n")
    program = here(world.builder / "etc/gentoo-release", str(world.builder / "bin"))
    assert program == str(world.builder / "bin/emerge")
    image = load(tmp_path / "images/shop")
    assert isinstance(image.bootstrap, Gentoo)
    shutil.rmtree(world.target / "etc")
    configuration.write(image.bootstrap.configuration(), world.target)
    variables = {"PORTAGE_USERNAME": "root", "PORTAGE_GRPNAME": "root", "PORTAGE_TMPDIR": f"{tmp_path}/tmp"}
    log = BuildLog(tmp_path / "log", world.lines.append)
    return HostPortage(image, Store(tmp_path / "store"), log, 3.0, 86400.0, program, variables)


def test_only_a_gentoo_has_an_emerge_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "emerge").write_text("#!/bin/sh\n")
    (tmp_path / "emerge").chmod(0o755)
    release = tmp_path / "gentoo-release"
    assert here(release, str(tmp_path)) is None
    release.touch()
    assert here(release, str(tmp_path)) == str(tmp_path / "emerge")
    assert here(release, os.devnull) is None


def test_the_sets_are_merged_by_the_hosts_emerge(host: HostPortage, world: World) -> None:  # noqa: F811
    """With a cycle on the way; the profile and a package come from the image's overlay, the rest from the host's."""
    world.library("font", must=["shape"])
    world.library("shape", may=["font"], system=False)
    assert len(plan(host, world.target).breaks) == 1
    outcome = merge_sets(host, world.target)
    assert [str(step) for step in outcome.breaks] == ["merge dev-libs/shape-1 with --nodeps"]
    assert set(installed(world.target)) == {"app-misc/shop-1", "dev-libs/font-1", "dev-libs/shape-1"}
    assert world.needed("shape") == {"font"}
    # What builds it is the host's, as with an emerge typed by hand; and so are the binary packages.
    assert set(installed(world.builder)) == {"dev-util/gen-1"}
    assert list(world.packages.glob("app-misc/shop/*"))
    # The machine looks for its profile where it will have it.
    assert str((world.target / LINK).readlink()) == "/var/db/repos/local/profiles/host/shop"
    merge_packages(host, world.target, ["dev-util/gen"])
    assert "dev-util/gen-1" in installed(world.target)
    assert (world.target / "var/lib/portage/world").read_text() == "dev-util/gen\n"


def test_a_profile_that_no_repository_of_the_host_has(host: HostPortage, world: World) -> None:  # noqa: F811
    image = host.image.folder / "image.toml"
    image.write_text(image.read_text().replace("local:host/shop", "tiny:bose"))
    lost = HostPortage(load(host.image.folder), host.store, host.log, 3.0, 86400.0, host.program, host.variables)
    with pytest.raises(InputError, match='"tiny:bose": repository tiny has no such profile') as caught:
        merge_sets(lost, world.target)
    assert caught.value.hint == "the nearest: tiny:base"
