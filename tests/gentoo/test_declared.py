"""What image.toml says of packages is what emerge does; and where it says of no builder, only a Gentoo merges."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.command import BuildLog
from pipeline.errors import GoldspawnError, InputError
from pipeline.gentoo import datasets
from pipeline.gentoo.folders import make_merged
from pipeline.gentoo.host import RELEASE, HostPortage
from pipeline.gentoo.merge import merge_sets
from pipeline.image import load
from pipeline.portage.installed import installed
from tests.gentoo.conftest import changed
from tests.gentoo.definition import definition
from tests.portage.world import World


def font(world: World) -> set[str]:
    return {cpv for cpv in installed(world.target) if cpv.startswith("dev-libs/font-")}


@pytest.mark.parametrize(
    ("key", "keywords", "masked", "without", "obeyed"),
    [
        ('package_mask = [">=dev-libs/font-2"]', "amd64", "", "2", "1"),
        ('package_unmask = ["=dev-libs/font-2"]', "amd64", "=dev-libs/font-2\n", "1", "2"),
        ('package_accept_keywords = ["dev-libs/font ~amd64"]', "~amd64", "", "1", "2"),
    ],
)
def test_emerge_obeys_what_is_said_of_a_package(
    key: str, keywords: str, masked: str, without: str, obeyed: str, host: HostPortage, world: World
) -> None:
    world.ebuild("dev-libs/font")
    world.ebuild("dev-libs/font", "2", keywords=keywords)
    world.write("profiles/package.mask", masked)
    merge_sets(host, world.target)
    assert font(world) == {f"dev-libs/font-{without}"}
    merge_sets(changed(host, world, ("sets =", f"{key}\nsets =")), world.target)
    assert font(world) == {f"dev-libs/font-{obeyed}"}


def test_emerge_obeys_what_is_said_of_a_licence(host: HostPortage, world: World) -> None:
    world.ebuild("dev-libs/font")
    strict = changed(host, world, ('ACCEPT_LICENSE = "*"', 'ACCEPT_LICENSE = "-*"'))
    with pytest.raises(GoldspawnError, match="Free"):
        merge_sets(strict, world.target)
    assert not installed(world.target)
    key = 'package_license = ["dev-libs/font Free", "app-misc/shop Free"]'
    merge_sets(changed(strict, world, ("sets =", f"{key}\nsets =")), world.target)
    assert font(world) == {"dev-libs/font-1"}


def test_a_builder_that_is_a_directory_is_merged_in_and_not_changed(made: Path, tars: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["tar", "--extract", "--file", made / "builder.tar.zst", "--directory", root], check=True)
    (tmp_path / "image").mkdir()
    (tmp_path / "image/image.toml").write_text(definition("app-misc/hello", builder='directory = "../root"'))

    def state() -> list[tuple[str, int]]:
        return sorted((str(path), path.lstat().st_mtime_ns) for path in root.rglob("*"))

    before = state()
    with BuildLog(tmp_path / "log") as log:
        make_merged(load(tmp_path / "image"), tars / "merged.tar", log=log, max_age=86400.0, slowness=3.0)
    with tarfile.open(tars / "merged.tar") as archive:
        assert any(name.startswith("./var/db/pkg/app-misc/hello-") for name in archive.getnames())
    assert state() == before


def test_without_a_builder_nothing_is_merged_on_a_host_that_is_no_gentoo(
    host: HostPortage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where it has an emerge: it could be any."""
    assert not RELEASE.exists()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/emerge").write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    (tmp_path / "bin/emerge").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    assert shutil.which("emerge") == f"{tmp_path}/bin/emerge"
    build: Any = SimpleNamespace(
        image=host.image, log=host.log, zfs=None, place=SimpleNamespace(slowness=1.0),
        wishes=SimpleNamespace(policy=SimpleNamespace(age=lambda stage: 0.0)),
    )  # fmt: skip
    with pytest.raises(InputError) as caught, datasets.workshop(build, tmp_path):
        pass
    assert caught.value.message == "bootstrap.builder of image.toml: missing, and this host is no Gentoo"
    assert "name a stage3" in str(caught.value.hint)
    assert not (tmp_path / "was-run").exists()
