"""The checks after the last merge: each finds what it is there to find, and a build that leaves such a thing fails."""

from __future__ import annotations

import shutil

import pytest

from pipeline.errors import CheckFailed
from pipeline.portage import Package, resolve
from pipeline.portage.installed import installed
from pipeline.portage.sound import faults
from tests.portage.world import World

SYSTEM = ["@system"]


@pytest.fixture
def pair(world: World) -> World:
    """font and shape, merged and sound."""
    world.library("font", must=["shape"])
    world.library("shape", iuse="glyphs", depend="")
    resolve(world.emerge(), SYSTEM)
    assert faults(world.emerge(), SYSTEM, members(world)) == []
    return world


def members(world: World) -> set[Package]:
    return {entry.package for entry in installed(world.target).values()}


def test_a_slot_operator_that_was_bound_to_nothing(pair: World) -> None:
    """As --nodeps leaves it, where what it needs is not there yet."""
    entry = pair.target / "var/db/pkg/dev-libs/font-1"
    for name in ("DEPEND", "RDEPEND"):
        (entry / name).write_text("dev-libs/shape:=\n")
    found = faults(pair.emerge(), SYSTEM, members(pair))
    assert "dev-libs/font-1 was built before what its := names was there" in found


def test_other_flags_than_configured_and_what_emerge_would_still_do(pair: World) -> None:
    pair.configure("package.use", "dev-libs/shape glyphs\n")
    found = faults(pair.emerge(), SYSTEM, members(pair))
    assert any(line.startswith("emerge would still do: [ebuild") and "shape" in line for line in found), found
    assert any(line.startswith("other USE flags than configured: [ebuild") for line in found), found


def test_a_package_that_is_gone(pair: World) -> None:
    shutil.rmtree(pair.target / "var/db/pkg/dev-libs/shape-1")
    (pair.target / "usr/lib/libshape.so.1").unlink()
    found = faults(pair.emerge(), SYSTEM, members(pair))
    assert "/usr/lib/libfont.so.1 of dev-libs/font-1 needs libshape.so.1, which is nowhere in the root" in found
    assert any(line.startswith("emerge would still do: [ebuild") and "shape" in line for line in found), found


def test_a_build_that_ends_unsound_fails(world: World) -> None:
    """A member that is linked with a library of its own build folder only: it compiles, and it can never run."""
    world.library("font", must=["shape"])
    world.library("shape", may=["font"])
    ebuild = world.repository / "dev-libs/font/font-1.ebuild"
    ghost = "gcc -shared -fPIC -Wl,-soname,libghost.so.1 -x c -o libghost.so - <<< 'int ghost(void) { return 1; }'\n"
    text = ebuild.read_text().replace("src_compile() {\n", f"src_compile() {{\n    {ghost}")
    ebuild.write_text(text.replace("-Wl,-rpath-link", "-L. -Wl,--no-as-needed -lghost -Wl,-rpath-link"))
    with pytest.raises(CheckFailed) as caught:
        resolve(world.emerge(), SYSTEM)
    assert "libfont.so.1 of dev-libs/font-1 needs libghost.so.1, which is nowhere in the root" in str(caught.value)
