"""Which cycles to open where, decided from what is known alone: nothing is run, nothing is touched.

A break merges one member of a ring in a way that does not need the next one. In order of preference: from binary
packages at hand, complete as they are; with a USE flag changed as Portage suggests; with `--nodeps`, against what is
there. The last two leave something incomplete, which is built again later (`rebuild`).

The choice is a cheapest hitting set over all rings, and rings are added to it until none is left: a report names the
shortest ones only, and opening these may leave longer ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.portage.cycles import Cycle, Graph, Package, Pair, components
from pipeline.portage.hitting import STEPS, cheapest
from pipeline.portage.report import Report, UseChange

Method = Literal["binary", "use", "nodeps"]

COSTS: Mapping[Method, float] = {"binary": 0.1, "use": 0.4, "nodeps": 1.0}
"""What a break costs beside the package: two USE changes rather than one --nodeps, one --nodeps rather than three."""

_DIGEST = 0.01
"""At most this much tells breaks of equal cost apart, so that it never buys one break more."""


@dataclass(frozen=True, order=True)
class Break:
    """One way to open rings. `packages` has one package, but for binary ones, which are merged together.

    `flags` is of "use" only. `first` are packages to merge before, as usual: what the broken one needs to be built and
    no ring keeps from being there.
    """

    method: Method
    packages: tuple[Package, ...]
    flags: tuple[str, ...] = ()
    first: tuple[Package, ...] = field(default=(), compare=False)

    @property
    def package(self) -> Package:
        return self.packages[0]

    @property
    def incomplete(self) -> bool:
        """Whether what it leaves has to be built again."""
        return self.method != "binary"

    def __str__(self) -> str:
        names = ", ".join(package.cpv for package in self.packages)
        where = "" if self.package.root == "target" else ", in the builder's /"
        if self.method == "binary":
            return f"take {names} from binary packages{where}"
        if self.method == "use":
            return f"merge {names} with USE={' '.join(self.flags)} for now{where}"
        return f"merge {names} with --nodeps{where}"


@dataclass(frozen=True)
class Knowledge:
    """What the planner is told beside the report.

    `binaries` are packages that can be had complete; `costs` the cost of building a category/name, where it is known,
    in any unit (an average package is then 1); `hollow` are those category/names that install nothing, besides the
    category "virtual"; `vain` are breaks that were tried and failed, `made` those that were made since the report. With
    `spare_builder` nothing in the builder's `/` is merged incomplete: it is somebody's machine.
    """

    binaries: frozenset[Package] = frozenset()
    suggestions: tuple[UseChange, ...] = ()
    costs: Mapping[str, float] = field(default_factory=dict)
    hollow: frozenset[str] = frozenset()
    vain: frozenset[Break] = frozenset()
    spare_builder: bool = False
    made: frozenset[Break] = frozenset()


@dataclass(frozen=True)
class Plan:
    """The breaks, in the order in which to make them, and how many rings they open.

    `exact` says that no cheaper set of breaks opens all rings. `closed` are rings for which there is no break.
    """

    breaks: tuple[Break, ...] = ()
    cycles: int = 0
    exact: bool = True
    closed: tuple[Cycle, ...] = ()

    def __str__(self) -> str:
        if not self.cycles:
            return "no cycles"
        rings = f"{self.cycles} cycle{'s' if self.cycles != 1 else ''}"
        lines = [f"{rings}, {len(self.breaks)} break{'s' if len(self.breaks) != 1 else ''}:"]
        for number, step in enumerate(self.breaks, 1):
            lines.append(f"  {number}. {step}")
            if step.first:
                lines.append(f"     after {', '.join(package.cpv for package in step.first)}")
        return "\n".join(lines)

    def as_json(self) -> list[dict[str, Any]]:
        """The breaks for a manifest or a file; `breaks_from_json` reads them."""
        return [
            {
                "method": step.method,
                "root": step.package.root,
                "packages": [package.cpv for package in step.packages],
                "flags": list(step.flags),
                "first": [{"package": package.cpv, "root": package.root} for package in step.first],
            }
            for step in self.breaks
        ]


def breaks_from_json(data: Any) -> tuple[Break, ...]:
    """The breaks that `Plan.as_json` wrote. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
    return tuple(
        Break(
            {"binary": "binary", "use": "use", "nodeps": "nodeps"}[item["method"]],  # type: ignore[arg-type]
            tuple(Package.of(cpv, root=item["root"]) for cpv in item["packages"]),
            tuple(item["flags"]),
            tuple(Package.of(dep["package"], root=dep["root"]) for dep in item["first"]),
        )
        for item in data
    )


def make(report: Report, known: Knowledge | None = None, *, steps: int = STEPS) -> Plan:
    """The plan for all cycles of a report. `steps` bounds the search (`hitting.STEPS`)."""
    known = known if known is not None else Knowledge()
    graph = report.tangle
    options = _Options(graph, known, tuple(dict.fromkeys((*report.suggestions, *known.suggestions))))
    rings: dict[Cycle, tuple[Break, ...]] = {}
    closed: list[Cycle] = []
    chosen: frozenset[Break] = frozenset()
    exact = True
    named = [ring.canonical for ring in report.cycles if not options.opened(ring, known.made)]
    waiting: Iterable[Cycle] = [*named, *_left(graph, known.made, options)]
    search = 0  # what is near is enough while rings still turn up
    while True:
        fresh = [ring for ring in dict.fromkeys(waiting) if ring not in rings and ring not in closed]
        for ring in fresh:
            if breaks := options.of(ring):
                rings[ring] = breaks
            else:
                closed.append(ring)
        if not fresh and search == steps:
            break
        search = 0 if fresh else steps
        costs = {step: options.cost(step) for step in sorted({step for steps in rings.values() for step in steps})}
        answer = cheapest(list(rings.values()), costs, steps=search)
        chosen, exact = answer.chosen, answer.exact
        waiting = list(_left(graph, chosen | known.made, options))
    return Plan(_ordered(chosen, report, known.made), len(rings) + len(closed), exact, tuple(closed))


def _left(graph: Graph, chosen: Iterable[Break], options: _Options) -> Iterable[Cycle]:
    """The rings that none of the chosen breaks opens."""
    gone = {step.package for step in chosen if step.method == "nodeps"}
    cut = {pair for step in chosen for pair in options.cuts(step)}
    return graph.cycles(gone, cut)


class _Options:
    """All breaks there are, for each ring."""

    def __init__(self, graph: Graph, known: Knowledge, suggestions: Sequence[UseChange]) -> None:
        self.graph = graph
        self.known = known
        self.suggestions = suggestions
        self.average = sum(known.costs.values()) / len(known.costs) if known.costs else 1.0
        groups = [group for group in components(graph.hard()) if len(group) > 1]
        self._groups = {member: group for group in groups for member in group}

    def of(self, ring: Cycle) -> tuple[Break, ...]:
        """The breaks that open this ring and were not tried in vain."""
        found = [Break("nodeps", (member,)) for member in ring.members if not self._hollow(member)]
        for change in self.suggestions:
            if change.package in ring.members and self._guards(change, ring):
                found.append(Break("use", (change.package,), change.flags))
        builders = {edge.parent for edge in ring.edges if edge.builds}
        if builders <= self.known.binaries:
            group = self._groups.get(ring.members[0], frozenset(ring.members))
            found.append(Break("binary", tuple(sorted(group & self.known.binaries))))
        if self.known.spare_builder:
            found = [step for step in found if not step.incomplete or step.package.root == "target"]
        return tuple(step for step in found if step not in self.known.vain)

    def cost(self, step: Break) -> float:
        """The cost of a break: its method's, the package's, and a trifle for what it would have to do without."""
        weight = sum(self.known.costs.get(package.key, self.average) for package in step.packages) / self.average
        cost = COSTS[step.method] * weight
        if step.method != "nodeps":
            return cost
        edges = self.graph.needs.get(step.package, ())
        missing = sum(1.0 for edge in edges if edge.builds) + sum(0.1 for edge in edges if edge.kind == "runtime")
        if not any(edge.builds for edge in edges):
            # It is complete as it is, and of no use to who waits for it before what it needs to run is there.
            cost *= 3
        return cost + _DIGEST * missing / (missing + 1) / len(self.graph.packages)

    def cuts(self, step: Break) -> Iterable[Pair]:
        """The needs that a break takes away."""
        edges = [edge for package in step.packages for edge in self.graph.needs.get(package, ())]
        if step.method == "binary":
            return {(edge.parent, edge.child) for edge in edges if edge.builds}
        if step.method == "use":
            plain = {flag.lstrip("+-") for flag in step.flags}
            return {(edge.parent, edge.child) for edge in edges if plain & {flag.lstrip("+-") for flag in edge.flags}}
        return set()

    def opened(self, ring: Cycle, made: Collection[Break]) -> bool:
        """Whether one of the breaks opens this ring."""
        gone = {step.package for step in made if step.method == "nodeps"}
        cut = {pair for step in made for pair in self.cuts(step)}
        return any(edge.parent in gone or (edge.parent, edge.child) in cut for edge in ring.edges)

    def _hollow(self, package: Package) -> bool:
        """Whether it is there for what it needs only: merged without that, it satisfies the letter."""
        return package.category == "virtual" or package.key in self.known.hollow

    def _guards(self, change: UseChange, ring: Cycle) -> bool:
        """Whether the ring's edge is there because of one of the flags."""
        plain = {flag.lstrip("+-") for flag in change.flags}
        return bool(plain & {flag.lstrip("+-") for flag in ring.leaving(change.package).flags})


def _ordered(chosen: Iterable[Break], report: Report, made: Collection[Break]) -> tuple[Break, ...]:
    """The breaks in the order in which each finds most of what it needs, with what can be merged before each.

    What another one brings comes before who needs it. The builder's come first, since its tools build the target; USE
    changes come last in each root: emerge resolves all of what they need, so nothing else may be in its way.
    """
    graph = report.graph if report.graph.edges else report.tangle
    needs = graph.needs
    done = {package for step in made for package in step.packages}
    ordered: list[Break] = []
    left = sorted(chosen)
    while left:
        stuck = _stuck(graph, done)

        def lacking(step: Break, stuck: frozenset[Package] = stuck) -> tuple[Any, ...]:
            wanted = {edge.child for edge in needs.get(step.package, ()) if edge.builds and edge.child in stuck}
            coming = {package for other in left for package in other.packages} & wanted
            order = {"binary": 0, "nodeps": 1, "use": 2}[step.method]
            return step.package.root != "builder", order, len(coming), len(wanted), step

        step = min(left, key=lacking)
        left.remove(step)
        first: list[Package] = []
        if step.method == "nodeps":
            wanted = {edge.child for edge in needs.get(step.package, ()) if edge.builds}
            first = sorted(package for package in wanted if package not in stuck and package not in done)
            first = [package for package in first if step.package not in graph.closure([package], done)]
        ordered.append(Break(step.method, step.packages, step.flags, tuple(first)))
        done |= graph.closure(first, done) | set(step.packages)
    return tuple(ordered)


def _stuck(graph: Graph, done: Iterable[Package]) -> frozenset[Package]:
    """The packages that emerge cannot merge yet: those in rings, and all that bring one of these along.

    What a package brings along is more than what it waits for: PDEPEND as well.
    """
    gone = frozenset(done)
    left = graph.hard(gone)
    stuck: set[Package] = set()
    for group in components(left):
        if any(edge.builds and edge.child in group for package in group for edge in left.needs.get(package, ())):
            stuck |= group
    wanted: dict[Package, list[Package]] = {}
    for edge in graph.edges:
        if edge.parent not in gone and edge.child not in gone:
            wanted.setdefault(edge.child, []).append(edge.parent)
    waiting = list(stuck)
    while waiting:
        for parent in wanted.get(waiting.pop(), ()):
            if parent not in stuck:
                stuck.add(parent)
                waiting.append(parent)
    return frozenset(stuck)
