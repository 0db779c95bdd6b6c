"""Configuration files that are there before a package brings its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.gentoo.host import HostPortage
from pipeline.gentoo.merge import merge_packages
from pipeline.image import load
from tests.portage.world import World

BODY = 'S="${WORKDIR}"\nsrc_install() { insinto /etc/app; newins - conf <<< "the package\'s"; }\n'


@pytest.mark.parametrize(("policy", "left"), [("package", "the package's"), ("keep", "the operator's")])
def test_a_file_that_is_there_is_replaced_or_kept(policy: str, left: str, host: HostPortage, world: World) -> None:
    world.ebuild("app-misc/app", body=BODY)
    (world.target / "etc/app").mkdir()
    (world.target / "etc/app/conf").write_text("the operator's\n")
    file = host.image.folder / "image.toml"
    file.write_text(file.read_text().replace("sets =", f'config_files = "{policy}"\nsets ='))
    merge_packages(replace(host, image=load(host.image.folder)), world.target, ["app-misc/app"])
    assert (world.target / "etc/app/conf").read_text() == f"{left}\n"
    assert [path.name for path in (world.target / "etc/app").iterdir()] == ["conf"]
