"""What tests of Gentoo images share: a workshop in which the real Portage plays a host that is a Gentoo itself."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.bootstrap.gentoo import Gentoo
from pipeline.command import BuildLog
from pipeline.gentoo.host import HostPortage, here
from pipeline.gentoo.store import Store
from pipeline.image import load
from pipeline.portage import configuration
from tests.gentoo import builder, repository
from tests.gentoo.definition import MADE
from tests.portage.conftest import world
from tests.portage.world import FEATURES, World

__all__ = ["world"]


@pytest.fixture(scope="session")
def made() -> Path:
    """The folder with the builder root and the repository `tiny`: those of the image gentoo1."""
    repository.write(MADE / "tiny")
    builder.make(MADE / "builder.tar.zst")
    return MADE


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """A folder of the test's own, as the one for tars of root file systems; the store of Portage's stands beside it."""
    folder = tmp_path / "exchange/tars"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def host(world: World, tmp_path: Path) -> HostPortage:
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
    return HostPortage(image, Store(tmp_path / "store"), log, 3.0, 86400.0, program, copied, variables)


def changed(host: HostPortage, world: World, *edits: tuple[str, str]) -> HostPortage:
    """The workshop for the image with its image.toml edited; its target is empty again."""
    file = host.image.folder / "image.toml"
    text = file.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    image = load(file.parent)
    assert isinstance(image.bootstrap, Gentoo)
    shutil.rmtree(world.target)
    folder = file.parent / image.bootstrap.portage if image.bootstrap.portage else None
    configuration.write(image.bootstrap.configuration(), world.target, folder)
    return replace(host, image=image)


@contextlib.contextmanager
def copied(tree: Path) -> Iterator[Path]:
    """A copy of a tree, whatever the file system."""
    copy = tree.with_name("copy")
    shutil.copytree(tree, copy, symlinks=True)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)
