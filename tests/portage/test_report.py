"""What four versions of Portage say of the same cycles, recorded; and what the installed one says of them now."""

from __future__ import annotations

import pytest

from pipeline.portage import Report, make, read, resolution
from tests.portage.record import DATA, rings
from tests.portage.world import World

BUILDER = "dev-util/gen-1 (builder) → dev-util/mk-1 (builder) → dev-util/gen-1 (builder)"
TARGET = "dev-libs/font-1 → dev-libs/shape-1 → dev-libs/font-1"

VERSIONS = sorted(path.name for path in DATA.iterdir())


def recorded(version: str, form: str) -> Report:
    folder = DATA / version
    return read((folder / f"{form}.out").read_text(), (folder / f"{form}.err").read_text())


def rings_of(report: Report) -> list[str]:
    return sorted(str(ring.canonical) for ring in report.cycles)


def check(report: Report) -> None:
    """All that there is to know of the cycles of `rings`."""
    assert rings_of(report) == [TARGET, BUILDER]
    ring = next(ring for ring in report.cycles if str(ring.canonical) == TARGET).canonical
    assert [(edge.kind, edge.flags) for edge in ring.edges] == [
        ("buildtime_slot_op", ()),
        ("buildtime_slot_op", ("glyphs",)),
    ]
    assert [(change.package.cpv, change.flags) for change in report.suggestions] == [("dev-libs/shape-1", ("-glyphs",))]
    assert {str(package) for package in report.graph.packages} >= {"dev-libs/zip-1", "app-misc/product-1"}


@pytest.mark.parametrize("version", VERSIONS)
def test_with_the_graph_of_debug_each_version_tells_all(version: str) -> None:
    form = "json-debug" if (DATA / version / "json-debug.out").exists() else "debug"
    check(recorded(version, form))
    plan = make(recorded(version, form))
    assert [str(step) for step in plan.breaks] == [
        "merge dev-util/gen-1 with --nodeps, in the builder's /",
        "merge dev-libs/shape-1 with USE=-glyphs for now",
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_text_alone_tells_one_cycle_with_its_roots(version: str) -> None:
    report = recorded(version, "text")
    assert report.form == "text"
    assert len(report.cycles) == 1
    assert rings_of(report)[0] in (TARGET, BUILDER)


def test_json_alone_tells_all_cycles_and_no_roots() -> None:
    report = recorded("3.0.83", "json")
    assert report.form == "json"
    assert {str(ring).replace(" (builder)", "") for ring in report.cycles} == {
        TARGET,
        BUILDER.replace(" (builder)", ""),
    }


def test_a_list_above_the_json_tells_the_roots() -> None:
    listed = "[ebuild  N     ] dev-util/gen-1::tiny  0 KiB\n[ebuild  N     ] dev-util/mk-1::tiny  0 KiB\n"
    text = listed + (DATA / "3.0.83/json.out").read_text()
    assert rings_of(read(text)) == [TARGET, BUILDER]


def test_no_report_is_no_cycle() -> None:
    assert not read("[ebuild  N     ] dev-util/gen-1 to /gentoo/\n", "")


def test_the_emerge_that_is_installed(world: World) -> None:
    rings(world)
    check(resolution(world.emerge(), ["@system"]))
