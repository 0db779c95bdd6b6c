"""What is merged before the sets: nothing is left of it that is not as configured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.gentoo.host import HostPortage
from pipeline.gentoo.merge import merge_sets
from pipeline.image import load
from pipeline.portage.installed import installed
from pipeline.portage.memory import MARKER
from tests.portage.world import World


def asking(host: HostPortage, first_pass: str) -> HostPortage:
    """The same workshop for an image with that first pass."""
    file = host.image.folder / "image.toml"
    file.write_text(file.read_text().replace("sets =", f'first_pass = "{first_pass}"\nsets ='))
    return replace(host, image=load(host.image.folder))


def noting_flags(world: World, name: str, where: Path) -> None:
    """Makes a package tell its flags each time that it is built."""
    ebuild = world.repository / f"dev-libs/{name}/{name}-1.ebuild"
    ebuild.write_text(ebuild.read_text() + f'pkg_setup() {{ echo "{name}: ${{USE}}" >> "{where}"; }}\n')


def test_packages_build_comes_first_with_hardly_a_flag_and_ends_as_configured(
    host: HostPortage, world: World, tmp_path: Path
) -> None:
    """With the flags of a first pass there is no ring at all: that is why catalyst does it."""
    world.library("font", must=["shape"])
    world.library("shape", may=["font"], iuse="+glyphs build boot", depend="glyphs? ( dev-libs/font:= )", system=False)
    world.library("extra", system=False)
    world.write("profiles/base/packages.build", "# first\ndev-libs/shape\ndev-libs/extra\n")
    world.write("profiles/base/make.defaults", (world.repository / "profiles/base/make.defaults").read_text()
                + 'BOOTSTRAP_USE="boot"\n')  # fmt: skip
    (host.image.folder / "overlay/profiles/host/shop/packages.build").write_text("-dev-libs/extra\n")
    noting_flags(world, "shape", tmp_path / "flags")
    outcome = merge_sets(asking(host, "packages.build"), world.target)
    flags = [
        set(line.split()[1:]) & {"glyphs", "build", "boot"} for line in (tmp_path / "flags").read_text().splitlines()
    ]
    assert (flags[0], flags[-1]) == ({"build", "boot"}, {"glyphs"})
    assert outcome.breaks == ()
    assert world.merges()[0] == "dev-libs/shape-1"
    assert set(installed(world.target)) == {"app-misc/shop-1", "dev-libs/font-1", "dev-libs/shape-1"}
    assert world.needed("shape") == {"font"}
    assert not (world.target / MARKER).exists()
    assert not (world.target / "var/lib/portage/world").exists()


def test_a_profile_without_packages_build(host: HostPortage, world: World) -> None:
    with pytest.raises(InputError, match=r'the profile "local:host/shop" has no packages\.build'):
        merge_sets(asking(host, "packages.build"), world.target)


def test_all_of_system_without_dependencies_and_then_again_in_order(host: HostPortage, world: World) -> None:
    world.library("font", may=["shape"])
    world.library("shape", may=["font"])
    merge_sets(asking(host, "nodeps"), world.target)
    assert (world.needed("font"), world.needed("shape")) == ({"shape"}, {"font"})


def test_what_was_merged_without_dependencies_is_built_again_until_all_saw_what_ships(
    host: HostPortage, world: World
) -> None:
    """A ring of three: built again once, the first of them would still have seen a half second one."""
    world.library("font", system=False)
    world.library("ant", may=["bee"], full=["bee/cow"])
    world.library("bee", may=["cow"], full=["cow/ant"])
    world.library("cow", may=["ant"], full=["ant/bee"])
    merge_sets(asking(host, "nodeps"), world.target)
    whole = {
        name: {f"{name}_value", f"{name}_with_{other}", f"{name}_full_{other}"}
        for name, other in (("ant", "bee"), ("bee", "cow"), ("cow", "ant"))
    }
    assert {name: world.symbols(name) for name in whole} == whole
    assert not (world.target / MARKER).exists()
