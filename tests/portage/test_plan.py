"""The planner alone: rings in, breaks out. No emerge, microseconds each."""

from __future__ import annotations

import itertools
import random

import pytest

from pipeline.portage import Break, Cycle, Edge, Graph, Knowledge, Package, Plan, Report, make
from pipeline.portage.drawing import draw
from pipeline.portage.hitting import cheapest
from pipeline.portage.plan import breaks_from_json
from pipeline.portage.report import UseChange


def package(name: str, category: str = "dev-libs", root: str = "target") -> Package:
    return Package(category, name, "1", root=root)  # type: ignore[arg-type]


def report(*needs: str, suggestions: tuple[UseChange, ...] = ()) -> Report:
    """From lines such as "a b" (a needs b to be built), "a b run", "a b build flag"."""
    edges = []
    for line in needs:
        parent, child, *rest = line.split()
        kind = "runtime" if "run" in rest else "buildtime"
        flags = tuple(word for word in rest if word not in ("run", "build"))
        named = [package(*reversed(name.split("/"))) if "/" in name else package(name) for name in (parent, child)]
        edges.append(Edge(named[0], named[1], kind, flags))  # type: ignore[arg-type]
    graph = Graph(tuple(edges))
    return Report(tuple(graph.cycles()), suggestions, graph, graph, "text")


def names(plan: Plan) -> list[str]:
    return [step.package.name for step in plan.breaks]


def test_nothing_to_open() -> None:
    plan = make(report("a b", "b c"))
    assert (plan, str(plan)) == (Plan(), "no cycles")


def test_a_ring_of_run_time_needs_stops_nothing() -> None:
    assert make(report("a b run", "b a run")).breaks == ()


def test_one_member_opens_all_rings_that_share_it() -> None:
    plan = make(report("a hub", "hub a", "b hub", "hub b", "c hub", "hub c"))
    assert (names(plan), plan.cycles, plan.exact) == (["hub"], 3, True)


def test_rings_that_the_report_does_not_name_are_found_in_the_graph() -> None:
    whole = report("a b", "b a", "c d", "d c")
    plan = make(Report(whole.cycles[:1], (), whole.graph, whole.tangle, "text"))
    assert len(plan.breaks) == 2


def test_a_virtual_is_never_broken() -> None:
    plan = make(report("virtual/x real run", "real user", "user virtual/x"))
    assert names(plan) in (["real"], ["user"])
    only = make(report("virtual/x virtual/y", "virtual/y virtual/x"))
    assert (only.breaks, len(only.closed)) == ((), 1)


def test_a_package_that_needs_nothing_to_be_built_is_a_poor_choice() -> None:
    """It is complete as it is, and whoever waits for it would find that it does not run."""
    assert names(make(report("meta lib run", "lib meta"))) == ["lib"]


def test_a_suggested_flag_is_better_than_nodeps() -> None:
    change = UseChange(package("b"), ("-gui",))
    plan = make(report("a b", "b a build gui", suggestions=(change,)))
    assert plan.breaks == (Break("use", (package("b"),), ("-gui",)),)


def test_a_flag_opens_only_the_rings_that_it_guards() -> None:
    change = UseChange(package("b"), ("-gui",))
    plan = make(report("a b", "b a build gui", "b c", "c b", suggestions=(change,)))
    assert [(step.method, step.package.name) for step in plan.breaks] == [("nodeps", "b")]


def test_binary_packages_come_first_and_have_to_be_those_of_all_who_build() -> None:
    ring = report("a b", "b a")
    both = make(ring, Knowledge(binaries=frozenset({package("a"), package("b")})))
    one = make(ring, Knowledge(binaries=frozenset({package("a")})))
    assert [step.method for step in both.breaks] == ["binary"]
    assert [step.method for step in one.breaks] == ["nodeps"]


def test_what_was_tried_in_vain_is_not_tried_again() -> None:
    ring = report("a b", "b a")
    first = make(ring)
    second = make(ring, Knowledge(vain=frozenset(first.breaks)))
    third = make(ring, Knowledge(vain=frozenset((*first.breaks, *second.breaks))))
    assert {*names(first), *names(second)} == {"a", "b"}
    assert (third.breaks, len(third.closed)) == ((), 1)


def test_what_was_opened_since_the_report_is_planned_no_more() -> None:
    rings = report("a b", "b a", "c d", "d c")
    first = make(rings)
    rest = make(rings, Knowledge(made=frozenset(first.breaks[:1])))
    assert (names(rest), rest.cycles) == (names(first)[1:], 1)
    assert make(rings, Knowledge(made=frozenset(first.breaks))).breaks == ()


def test_a_break_that_another_one_helps_comes_after_it() -> None:
    plan = make(report("hub x", "hub y", "hub z", "x hub", "y hub", "z hub", "a hub", "a b", "b a"),
                Knowledge(vain=frozenset({Break("nodeps", (package("b"),))})))  # fmt: skip
    assert names(plan) == ["hub", "a"]


def test_the_cheaper_package_is_built_twice() -> None:
    plan = make(report("gcc make", "make gcc"), Knowledge(costs={"dev-libs/gcc": 3600, "dev-libs/make": 20}))
    assert names(plan) == ["make"]


def test_what_no_ring_keeps_away_is_merged_first() -> None:
    plan = make(report("a b", "b a", "a zip", "zip base", "b late", "late a"))
    assert plan.breaks[0].package.name in ("a", "b")
    plan = make(
        report("a b", "b a", "a zip", "zip base"), Knowledge(vain=frozenset({Break("nodeps", (package("b"),))}))
    )
    assert [one.name for one in plan.breaks[0].first] == ["zip"]


def test_the_builder_is_opened_before_the_target() -> None:
    pairs = [(package(x, root=root), package(y, root=root)) for root in ("target", "builder") for x, y in ("ab", "ba")]
    graph = Graph(tuple(Edge(parent, child, "buildtime") for parent, child in pairs))
    plan = make(Report(tuple(graph.cycles()), (), graph, graph))
    assert [step.package.root for step in plan.breaks] == ["builder", "target"]


def test_a_plan_survives_json_and_is_comparable() -> None:
    plan = make(report("a b", "b a", "a zip"), Knowledge(vain=frozenset({Break("nodeps", (package("b"),))})))
    again = breaks_from_json(plan.as_json())
    assert again == plan.breaks
    assert again[0].first == plan.breaks[0].first
    with pytest.raises((KeyError, TypeError, ValueError)):
        breaks_from_json([{"method": "prayer"}])


def test_a_plan_and_a_ring_are_printed() -> None:
    ring = report("a b build gui", "b a")
    plan = make(ring)
    assert str(plan) == f"1 cycle, 1 break:\n  1. merge dev-libs/{names(plan)[0]}-1 with --nodeps"
    drawn = draw(ring.cycles[0], plan.breaks).splitlines()
    assert drawn[0].startswith("┌─▶ dev-libs/a-1")
    assert drawn[1] == "│      │ to build, USE=gui"
    assert sum("✂" in line for line in drawn) == 1


@pytest.mark.parametrize("seed", range(40))
def test_the_choice_is_the_cheapest_that_there_is(seed: int) -> None:
    """Against all subsets, one by one."""
    dice = random.Random(seed)
    members = list(range(9))
    costs = {member: dice.choice([1.0, 1.0, 2.0, 0.4]) for member in members}
    sets = [frozenset(dice.sample(members, dice.randint(1, 4))) for _ in range(dice.randint(1, 14))]
    answer = cheapest(sets, costs)
    assert all(answer.chosen & group for group in sets)
    everything = itertools.chain.from_iterable(itertools.combinations(members, size) for size in range(10))
    least = min(sum(costs[one] for one in some) for some in everything if all(set(some) & group for group in sets))
    assert answer.exact
    assert sum(costs[one] for one in answer.chosen) == pytest.approx(least)


def test_a_search_without_end_is_cut_short_and_still_right() -> None:
    dice = random.Random(1)
    sets = [frozenset(dice.sample(range(60), 3)) for _ in range(200)]
    answer = cheapest(sets, dict.fromkeys(range(60), 1.0), steps=50)
    assert not answer.exact
    assert all(answer.chosen & group for group in sets)


@pytest.mark.parametrize("seed", range(20))
def test_after_the_breaks_no_ring_is_left(seed: int) -> None:
    dice = random.Random(seed)
    size = 60
    lines = [f"p{one} p{other}" for one in range(size) for other in dice.sample(range(size), 2) if one != other]
    found = report(*lines)
    plan = make(found)
    assert not list(found.graph.cycles({step.package for step in plan.breaks}))
    assert isinstance(next(iter(found.cycles), Cycle(())), Cycle)
