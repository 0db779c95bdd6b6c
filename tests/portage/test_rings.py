"""Rings of real packages, each from an empty root and an empty PKGDIR, with what was planned and what came of it."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import CommandFailed
from pipeline.portage import Emerge, Memory, Options, Outcome, Trial, Unbreakable, plan, resolve
from pipeline.portage.installed import installed
from pipeline.portage.memory import MARKER
from tests.portage.world import World

SYSTEM = ["@system"]


def made(outcome: Outcome) -> list[str]:
    return [str(step) for step in outcome.breaks]


def wait_for(path: Path, limit: float = 60) -> None:
    deadline = time.monotonic() + limit
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.05)


def test_two_libraries_that_use_each_other_end_fully_linked(world: World) -> None:
    """As freetype and harfbuzz: one order does not compile, the other leaves a feature out."""
    world.library("font", must=["shape"], full=["shape/font"])
    world.library("shape", may=["font"])
    outcome = resolve(world.emerge("--buildpkg"), SYSTEM)
    assert made(outcome) == ["merge dev-libs/shape-1 with --nodeps"]
    assert list(map(str, outcome.failed)) == ["merge dev-libs/font-1 with --nodeps"]
    assert world.needed("font") == {"shape"}
    assert world.needed("shape") == {"font"}
    assert world.symbols("shape") == {"shape_value", "shape_with_font"}
    # font was built against a shape that could do less: it has been built again.
    assert world.symbols("font") == {"font_value", "font_full_shape"}
    assert not (world.target / MARKER).exists()


def test_binary_packages_are_those_of_complete_members_only(world: World) -> None:
    """A package of a half-built member would be installed into the next root, and nobody would see."""
    world.library("font", must=["shape"], full=["shape/font"])
    world.library("shape", may=["font"])
    resolve(world.emerge("--buildpkg"), SYSTEM)
    shutil.rmtree(world.target / "usr")
    shutil.rmtree(world.target / "var")
    resolve(world.emerge("--usepkgonly"), SYSTEM)
    assert world.symbols("shape") == {"shape_value", "shape_with_font"}
    assert world.symbols("font") == {"font_value", "font_full_shape"}


def test_who_saw_nothing_of_the_change_is_not_built_again(world: World) -> None:
    world.library("font", must=["shape"])
    world.library("shape", may=["font"])
    world.library("user", must=["font"])
    outcome = resolve(world.emerge(), SYSTEM)
    assert [[package.name for package in wave] for wave in outcome.rebuilt] == [["shape"], ["font"]]
    assert world.merges().count("dev-libs/user-1") == 1


def test_what_a_member_needs_outside_of_the_ring_is_there_before_it_is_broken(world: World) -> None:
    world.library("zip", system=False)
    world.library("font", must=["shape", "zip"])
    world.library("shape", must=["zip"], may=["font"])
    outcome = resolve(world.emerge(), SYSTEM)
    assert made(outcome) == ["merge dev-libs/shape-1 with --nodeps"]
    assert world.merges()[:2] == ["dev-libs/zip-1", "dev-libs/shape-1"]
    assert world.needed("shape") == {"zip", "font"}


def test_three_in_a_ring(world: World) -> None:
    world.library("one", must=["two"])
    world.library("two", must=["three"])
    world.library("three", may=["one"])
    outcome = resolve(world.emerge(), SYSTEM)
    assert made(outcome) == ["merge dev-libs/three-1 with --nodeps"]
    assert (world.needed("one"), world.needed("two"), world.needed("three")) == ({"two"}, {"three"}, {"one"})


def test_two_rings_that_share_a_member_take_one_break(world: World) -> None:
    world.library("hub", may=["left", "right"])
    world.library("left", must=["hub"])
    world.library("right", must=["hub"])
    planned = plan(world.emerge(), SYSTEM)
    assert (planned.cycles, [str(step) for step in planned.breaks]) == (2, ["merge dev-libs/hub-1 with --nodeps"])
    outcome = resolve(world.emerge(), SYSTEM)
    assert made(outcome) == ["merge dev-libs/hub-1 with --nodeps"]
    assert outcome.resolutions == 2
    assert world.needed("hub") == {"left", "right"}


def test_a_ring_through_a_use_flag_is_opened_by_the_flag_and_ends_as_configured(world: World) -> None:
    world.library("font", must=["shape"])
    world.library("shape", may=["font"], iuse="+glyphs", depend="glyphs? ( dev-libs/font:= )")
    outcome = resolve(world.emerge(), SYSTEM)
    assert made(outcome) == ["merge dev-libs/shape-1 with USE=-glyphs for now"]
    assert not outcome.failed
    entry = installed(world.target)["dev-libs/shape-1"]
    assert "glyphs" in entry.fact("USE").split()
    assert world.needed("shape") == {"font"}


def test_what_failed_is_tried_again_when_another_break_has_brought_what_it_lacked(world: World) -> None:
    """Neither member of font and shape compiles without paint, and paint waits for a ring that is opened after."""
    others = ["left", "middle", "right"]
    world.library("zip", may=others)
    for name in others:
        world.library(name, must=["zip"])
    world.library("paint", must=["zip"])
    world.library("font", must=["shape"])
    world.library("shape", must=["paint"], may=["font"])
    outcome = resolve(world.emerge(), SYSTEM)
    assert made(outcome) == ["merge dev-libs/zip-1 with --nodeps", "merge dev-libs/shape-1 with --nodeps"]
    assert "merge dev-libs/shape-1 with --nodeps" in map(str, outcome.failed)
    assert (world.needed("shape"), world.needed("font")) == ({"paint", "font"}, {"shape"})
    assert world.needed("zip") == set(others)


def test_rings_that_only_flags_open_are_opened_one_suggestion_after_the_other(world: World) -> None:
    """Portage suggests a flag for the shortest cycle alone; what failed in the other ring must not end the build."""
    for first, second in (("font", "shape"), ("glyph", "ink")):
        world.library(first, must=[second])
        world.library(second, iuse="+full", depend=f"full? ( dev-libs/{first}:= )", must=[])
        ebuild = world.repository / f"dev-libs/{second}/{second}-1.ebuild"
        check = f'use full && {{ [[ -e ${{ESYSROOT}}/usr/include/{first}.h ]] || die "no {first}"; }}\n'
        ebuild.write_text(ebuild.read_text().replace("src_compile() {\n", "src_compile() {\n    " + check))
    outcome = resolve(world.emerge(), SYSTEM)
    assert {step.method for step in outcome.breaks} == {"use"}
    assert {step.package.name for step in outcome.breaks} == {"shape", "ink"}
    for name in ("shape", "ink"):
        assert "full" in installed(world.target)[f"dev-libs/{name}-1"].fact("USE").split()


def test_a_ring_to_run_only_is_no_problem_at_all(world: World) -> None:
    world.ebuild("app-misc/hen", rdepend="app-misc/egg", system=True)
    world.ebuild("app-misc/egg", rdepend="app-misc/hen", system=True)
    outcome = resolve(world.emerge(), SYSTEM)
    assert (outcome.plans, outcome.breaks, outcome.resolutions) == ((), (), 1)
    assert set(installed(world.target)) == {"app-misc/hen-1", "app-misc/egg-1"}


def test_what_a_root_held_before_is_brought_to_its_configuration(world: World) -> None:
    """As with a stage3: an older version, and a flag that the configuration wants otherwise, in a ring on top."""
    world.library("shape", iuse="glyphs", depend="glyphs? ( dev-libs/font:= )", may=["font"])
    world.library("font", must=["shape"], system=False)
    world.ebuild("app-misc/old", "1", system=True)
    resolve(world.emerge(), SYSTEM)
    assert set(installed(world.target)) == {"app-misc/old-1", "dev-libs/shape-1"}
    world.ebuild("app-misc/old", "2")
    world.configure("package.use", "dev-libs/shape glyphs\n")
    resolve(world.emerge(), SYSTEM)
    assert "app-misc/old-1" in installed(world.target), "what is there stays, unless it is asked for"
    outcome = resolve(world.emerge(), SYSTEM, Options(update=True))
    assert set(installed(world.target)) == {"app-misc/old-2", "dev-libs/font-1", "dev-libs/shape-1"}
    assert "glyphs" in installed(world.target)["dev-libs/shape-1"].fact("USE").split()
    assert (world.needed("shape"), world.needed("font")) == ({"font"}, {"shape"})
    assert {step.method for step in outcome.breaks} <= {"nodeps"}


def test_no_cycle_at_all(world: World) -> None:
    world.library("plain")
    assert str(plan(world.emerge(), SYSTEM)) == "no cycles"
    outcome = resolve(world.emerge(), SYSTEM)
    assert outcome.breaks == ()
    assert world.merges() == ["dev-libs/plain-1"]


def test_a_ring_that_binary_packages_open(world: World) -> None:
    world.library("font", must=["shape"])
    world.library("shape", may=["font"])
    resolve(world.emerge("--buildpkg"), SYSTEM)
    shutil.rmtree(world.target / "usr")
    shutil.rmtree(world.target / "var")
    assert plan(world.emerge(), SYSTEM).breaks[0].method == "nodeps"
    outcome = resolve(world.emerge(), SYSTEM, Options(binaries=True))
    assert made(outcome) == ["take dev-libs/font-1, dev-libs/shape-1 from binary packages"]
    assert outcome.rebuilt == ()
    assert world.needed("shape") == {"font"}


def test_a_ring_that_nothing_opens_is_drawn(world: World) -> None:
    world.library("font", must=["shape"])
    world.library("shape", must=["font"])
    with pytest.raises(Unbreakable) as caught:
        resolve(world.emerge(), SYSTEM)
    text = str(caught.value)
    assert "┌─▶ dev-libs/font-1\n│      │ to build, :=\n│      ▼\n│   dev-libs/shape-1" in text
    assert "tried in vain: merge dev-libs/font-1 with --nodeps" in text
    assert "tried in vain: merge dev-libs/shape-1 with --nodeps" in text
    assert "- provide binary packages of dev-libs/font-1 and dev-libs/shape-1" in text
    assert not installed(world.target)
    assert not (world.target / MARKER).exists()


def test_a_ring_through_a_virtual_is_opened_at_a_real_member(world: World) -> None:
    world.ebuild("virtual/shape", rdepend="dev-libs/shape", body="")
    world.library("shape", may=["font"])
    world.library("font", must=["shape"], full=["shape/font"], depend="virtual/shape")
    outcome = resolve(world.emerge(), SYSTEM)
    assert made(outcome) == ["merge dev-libs/shape-1 with --nodeps"]
    # font needs the virtual only, and has yet been built against a half shape.
    assert world.symbols("font") == {"font_value", "font_full_shape"}


def test_a_cycle_in_the_builder_is_opened_there(world: World) -> None:
    """gen needs make to be built and make needs gen: both are tools, merged into the builder's / and not the target."""

    def tool(says: str) -> str:
        return f'S="${{WORKDIR}}"\nsrc_install() {{ insinto /usr/share/tools; newins - ${{PN}} <<< "{says}"; }}\n'

    gen = tool("gen with $(has_version -b dev-util/mk && echo mk)")
    world.ebuild("dev-util/gen", bdepend="dev-util/mk", body=gen)
    world.ebuild("dev-util/mk", bdepend="dev-util/gen", body=tool("mk"))
    world.ebuild("app-misc/product", bdepend="dev-util/gen", body=tool("product"), system=True)
    outcome = resolve(world.emerge(), SYSTEM)
    assert made(outcome) == ["merge dev-util/gen-1 with --nodeps, in the builder's /"]
    assert set(installed(world.target)) == {"app-misc/product-1"}
    assert set(installed(world.builder)) == {"dev-util/gen-1", "dev-util/mk-1"}
    assert (world.builder / "usr/share/tools/gen").read_text() == "gen with mk\n"
    # The tool was complete before the target was built with it.
    assert world.merges()[-1] == "app-misc/product-1"
    assert world.merges().count("dev-util/gen-1 (builder)") == 2


def test_a_risky_break_is_tried_in_a_copy_first(world: World, tmp_path: Path) -> None:
    world.library("font", must=["shape"], full=["shape/font"])
    world.library("shape", may=["font"])
    # What a package does outside of its own folder, no failed merge takes back.
    for name in ("font", "shape"):
        ebuild = world.repository / f"dev-libs/{name}/{name}-1.ebuild"
        ebuild.write_text(ebuild.read_text() + f'pkg_setup() {{ mkdir -p "${{EROOT}}/var/seen/{name}"; }}\n')
    emerge = world.emerge("--buildpkg")
    copies: list[Path] = []
    seen: list[bool] = []

    @contextlib.contextmanager
    def copy(root: str) -> Iterator[Emerge]:
        assert root == "target"
        made = tmp_path / f"copy{len(copies)}"
        copies.append(made)
        shutil.copytree(world.target, made, symlinks=True)
        try:
            yield replace(emerge, root=str(made), seen=made)
        finally:
            seen.append((world.target / "var/seen").exists())
            shutil.rmtree(made)

    outcome = resolve(emerge, SYSTEM, Options(trial=Trial(copy, str(tmp_path / "tried"))))
    assert len(copies) == 2
    assert seen == [False, False]
    assert made(outcome) == ["merge dev-libs/shape-1 with --nodeps"]
    assert list(map(str, outcome.failed)) == ["merge dev-libs/font-1 with --nodeps"]
    # What was tried is merged as it is, and not built a second time.
    assert len([line for line in world.lines if "Emerging binary (1 of 1) dev-libs/shape-1" in line]) == 1
    assert world.symbols("shape") == {"shape_value", "shape_with_font"}
    assert world.symbols("font") == {"font_value", "font_full_shape"}
    # And is no binary package for others.
    shutil.rmtree(world.target / "usr")
    shutil.rmtree(world.target / "var")
    resolve(world.emerge("--usepkgonly"), SYSTEM)
    assert world.symbols("shape") == {"shape_value", "shape_with_font"}


def test_the_same_tree_is_not_solved_twice(world: World, tmp_path: Path) -> None:
    world.library("font", must=["shape"])
    world.library("shape", may=["font"])
    memory = Options(memory=Memory(tmp_path / "memory", "commit 1"))
    first = resolve(world.emerge(), SYSTEM, memory)
    apart = re.findall(r"--buildpkg-exclude=[^']*", (world.folder / "log").read_text())
    shutil.rmtree(world.target / "usr")
    shutil.rmtree(world.target / "var")
    (world.folder / "log").unlink()
    second = resolve(world.emerge(), SYSTEM, memory)
    assert (len(first.failed), first.remembered) == (1, False)
    # Nor does what was built against a half one become a binary package for others this time.
    assert apart[-1:] == re.findall(r"--buildpkg-exclude=[^']*", (world.folder / "log").read_text())[-1:]
    assert "dev-libs/font" in apart[-1]
    assert (second.failed, second.remembered, second.resolutions, second.plans) == ((), True, 1, ())
    assert second.breaks == first.breaks
    assert world.needed("shape") == {"font"}


def test_binary_packages_that_are_there_by_now_are_better_than_a_remembered_break(world: World, tmp_path: Path) -> None:
    world.library("font", must=["shape"])
    world.library("shape", may=["font"])
    memory = Options(binaries=True, memory=Memory(tmp_path / "memory", "commit 1"))
    first = resolve(world.emerge("--buildpkg"), SYSTEM, memory)
    assert made(first) == ["merge dev-libs/shape-1 with --nodeps"]
    shutil.rmtree(world.target / "usr")
    shutil.rmtree(world.target / "var")
    second = resolve(world.emerge("--buildpkg"), SYSTEM, memory)
    assert made(second) == ["take dev-libs/font-1, dev-libs/shape-1 from binary packages"]
    assert (second.rebuilt, second.remembered) == ((), False)


def test_a_memory_that_is_wrong_does_no_harm(world: World, tmp_path: Path) -> None:
    world.library("font", must=["shape"])
    world.library("shape", may=["font"])
    memory = Memory(tmp_path / "memory", "commit 1")
    place = memory.place(world.emerge(), SYSTEM)
    place.parent.mkdir()
    place.write_text(
        '{"format": 2, "spoilt": [], "breaks": [{"method": "nodeps", "root": "target", "packages": ["dev-libs/gone-1"],'
        ' "flags": [], "first": []}]}'
    )
    outcome = resolve(world.emerge(), SYSTEM, Options(memory=memory))
    assert made(outcome) == ["merge dev-libs/shape-1 with --nodeps"]


def test_a_killed_emerge_costs_the_next_run_nothing(world: World, tmp_path: Path) -> None:
    """SIGKILL in the middle of a merge, while a member of the ring is half-built: the next run mends it."""
    world.library("font", must=["shape"], full=["shape/font"])
    world.library("shape", may=["font"])
    gate = tmp_path / "gate"
    ebuild = world.repository / "dev-libs/font/font-1.ebuild"
    text = ebuild.read_text()
    ebuild.write_text(text + f'pkg_preinst() {{ touch "{gate}"; sleep 30; }}\n')
    code = f"from pathlib import Path; from tests.portage.test_rings import again; again(Path({str(world.folder)!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], start_new_session=True)
    wait_for(gate)
    process.kill()  # emerge hangs on a leash, and gets it, too
    process.wait()
    time.sleep(1)
    ebuild.write_text(text)
    assert set(installed(world.target)) == {"dev-libs/shape-1"}
    assert (world.target / MARKER).exists()
    outcome = resolve(world.emerge(), SYSTEM)
    assert outcome.breaks == ()
    assert world.symbols("shape") == {"shape_value", "shape_with_font"}
    assert world.symbols("font") == {"font_value", "font_full_shape"}
    assert not (world.target / MARKER).exists()
    assert not list((world.target / "var/db/pkg").glob("*/-MERGING-*"))


def again(folder: Path) -> None:
    """Resolves in the world that is at `folder` already: what the test above kills."""
    world = object.__new__(World)
    world.folder, world.target, world.builder, world.lines = folder, folder / "target", folder / "builder", []
    resolve(world.emerge(), SYSTEM)


def test_a_package_that_does_not_compile_is_named_with_its_error(world: World) -> None:
    world.library("plain")
    world.write("dev-libs/plain/files/plain.c", "int broken(\n")
    with pytest.raises(CommandFailed) as caught:
        resolve(world.emerge(), SYSTEM)
    first = str(caught.value).splitlines()[0]
    assert "dev-libs/plain-1 failed in its compile phase" in first
    assert "plain.c:1" in first


def test_three_hundred_packages_with_twenty_rings(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Each ring has two to six members on other levels of the graph; the breaks are as many as the rings at most."""
    size, rings = 300, 20
    needs: dict[int, set[int]] = {index: set() for index in range(size)}
    for index in range(1, size):
        needs[index] |= {(index * 7) % index, (index * 13 + 5) % index}
    for ring in range(rings):
        low = 15 * ring
        members = [low + step * 3 for step in range(2 + ring % 4)]
        for first, second in itertools.pairwise(members):
            needs[second].add(first)
        needs[members[0]].add(members[-1])
    for index, wanted in needs.items():
        names = " ".join(f"app-misc/p{one}" for one in sorted(wanted))
        world.ebuild(f"app-misc/p{index}", depend=names, rdepend=names, system=True)
    started = time.monotonic()
    outcome = resolve(world.emerge("--jobs=2"), SYSTEM)
    with capsys.disabled():
        print(f"\n{size} packages, {outcome.plans[0].cycles} cycles: {outcome}; {time.monotonic() - started:.0f} s")
    assert len(installed(world.target)) == size
    assert len(outcome.breaks) <= rings
    assert outcome.resolutions <= 3
    assert outcome.plans[0].exact
