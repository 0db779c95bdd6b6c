"""What a circular build dependency is made of: packages, the dependencies between them, and rings of both.

Knows nothing of emerge and of texts: `report` reads these, `plan` decides with them, `drawing` shows them.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Root = Literal["target", "builder"]
"""Where a package is merged: into the root that is being made, or into the `/` of the system whose emerge runs."""

Kind = Literal["buildtime", "buildtime_slot_op", "runtime", "runtime_slot_op", "runtime_post", "soft"]
"""Portage's name for a dependency: `_slot_op` is one with `:=`, `runtime_post` is PDEPEND."""

BUILD: frozenset[str] = frozenset({"buildtime", "buildtime_slot_op"})
HARD: frozenset[str] = BUILD | {"runtime", "runtime_slot_op"}
"""Kinds that take part in a cycle: Portage lets go of the others by itself (DepPrioritySatisfiedRange)."""

_CPV = re.compile(r"(?P<category>[^/\s]+)/(?P<name>[^/\s-][^/\s]*?)-(?P<version>\d[^-\s]*(?:-r\d+)?)")


@dataclass(frozen=True, order=True)
class Package:
    """One version of a package, to be merged into one root.

    `slot` is as Portage writes it, with the subslot ("0/2"), or "" where a report does not tell.
    """

    category: str
    name: str
    version: str
    slot: str = field(default="", compare=False)
    root: Root = "target"

    @classmethod
    def of(cls, cpv: str, *, slot: str = "", root: Root = "target") -> Package:
        """The package with this category/name-version. Raises `ValueError` for what is none (Portage's PMS, 3.1)."""
        if (found := _CPV.fullmatch(cpv)) is None:
            raise ValueError(f'"{cpv}" is no category/name-version')
        return cls(found["category"], found["name"], found["version"], slot, root)

    @property
    def key(self) -> str:
        """category/name"""
        return f"{self.category}/{self.name}"

    @property
    def cpv(self) -> str:
        """category/name-version"""
        return f"{self.category}/{self.name}-{self.version}"

    @property
    def atom(self) -> str:
        """What names this very version on emerge's command line."""
        return f"={self.cpv}"

    def __str__(self) -> str:
        return self.cpv if self.root == "target" else f"{self.cpv} (builder)"


Pair = tuple[Package, Package]
"""Who needs, and what is needed."""


@dataclass(frozen=True)
class Edge:
    """`parent` needs `child`; `flags` are the USE flags of `parent` because of which ("-x": because x is off)."""

    parent: Package
    child: Package
    kind: Kind
    flags: tuple[str, ...] = ()

    @property
    def builds(self) -> bool:
        """Whether the child has to be there before the parent can be built."""
        return self.kind in BUILD

    @property
    def reason(self) -> str:
        """Kind and flags, as the drawing has them."""
        words = {"buildtime": "to build", "buildtime_slot_op": "to build, :=", "runtime_slot_op": "to run, :="}
        text = words.get(self.kind, "to run" if self.kind == "runtime" else self.kind)
        return text + (f", USE={' '.join(self.flags)}" if self.flags else "")


@dataclass(frozen=True)
class Cycle:
    """A ring: each edge's child is the next one's parent, and the last one's child the first one's parent."""

    edges: tuple[Edge, ...]

    @property
    def members(self) -> tuple[Package, ...]:
        return tuple(edge.parent for edge in self.edges)

    @property
    def stops(self) -> bool:
        """Whether it stops emerge: a ring of run-time dependencies alone is merged all at once."""
        return any(edge.builds for edge in self.edges)

    @property
    def canonical(self) -> Cycle:
        """The same ring, told from its smallest member on, so that equal rings are equal."""
        start = min(range(len(self.edges)), key=lambda index: self.edges[index].parent)
        return Cycle(self.edges[start:] + self.edges[:start])

    def leaving(self, member: Package) -> Edge:
        """The edge from this member to the next. Raises `KeyError` for a package that is no member."""
        for edge in self.edges:
            if edge.parent == member:
                return edge
        raise KeyError(str(member))

    def __str__(self) -> str:
        return " → ".join(str(member) for member in (*self.members, self.members[0]))


@dataclass(frozen=True)
class Graph:
    """Packages that are to be merged, and what each needs of the others; an edge stands once for each pair."""

    edges: tuple[Edge, ...]
    alone: frozenset[Package] = frozenset()

    @cached_property
    def packages(self) -> frozenset[Package]:
        ends = (package for edge in self.edges for package in (edge.parent, edge.child))
        return frozenset(ends) | self.alone

    @cached_property
    def needs(self) -> Mapping[Package, tuple[Edge, ...]]:
        """Each package's own edges."""
        found: dict[Package, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.parent, []).append(edge)
        return {package: tuple(edges) for package, edges in found.items()}

    def hard(self, without: Collection[Package] = frozenset(), cut: Collection[Pair] = frozenset()) -> Graph:
        """Only the edges that can be part of a cycle: none that touches a package in `without`, none in `cut`."""
        return Graph(
            tuple(
                edge
                for edge in self.edges
                if edge.kind in HARD
                and edge.parent not in without
                and edge.child not in without
                and (edge.parent, edge.child) not in cut
            )
        )

    def closure(self, start: Iterable[Package], without: Collection[Package] = frozenset()) -> frozenset[Package]:
        """All that is reached from `start` over hard edges, `start` included, never entering `without`."""
        seen = {package for package in start if package not in without}
        waiting = list(seen)
        while waiting:
            for edge in self.needs.get(waiting.pop(), ()):
                if edge.kind in HARD and edge.child not in seen and edge.child not in without:
                    seen.add(edge.child)
                    waiting.append(edge.child)
        return frozenset(seen)

    def cycles(
        self, without: Collection[Package] = frozenset(), cut: Collection[Pair] = frozenset()
    ) -> Iterator[Cycle]:
        """For each edge needed for building that lies on a ring, a shortest ring through it; no ring twice.

        Empty exactly when nothing stops emerge: a ring without such an edge does not.
        """
        graph = self.hard(without, cut)
        told = set()
        for members in components(graph):
            for edge in (edge for member in sorted(members) for edge in graph.needs.get(member, ())):
                if edge.builds and edge.child in members:
                    ring = Cycle((edge, *_path(graph, edge.child, edge.parent, members))).canonical
                    if ring not in told:
                        told.add(ring)
                        yield ring


def components(graph: Graph) -> list[frozenset[Package]]:
    """Groups of packages that all reach each other, those first that need nothing of the others (Tarjan, 1972)."""
    index: dict[Package, int] = {}
    low: dict[Package, int] = {}
    path: list[Package] = []
    waiting: set[Package] = set()
    found: list[frozenset[Package]] = []
    for first in sorted(graph.packages):
        if first in index:
            continue
        work = [(first, iter(graph.needs.get(first, ())))]
        index[first] = low[first] = len(index)
        path.append(first)
        waiting.add(first)
        while work:
            package, edges = work[-1]
            for edge in edges:
                child = edge.child
                if child not in index:
                    index[child] = low[child] = len(index)
                    path.append(child)
                    waiting.add(child)
                    work.append((child, iter(graph.needs.get(child, ()))))
                    break
                if child in waiting:
                    low[package] = min(low[package], index[child])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[package])
                if low[package] == index[package]:
                    group = path[path.index(package) :]
                    del path[-len(group) :]
                    waiting.difference_update(group)
                    found.append(frozenset(group))
    return found


def _path(graph: Graph, start: Package, end: Package, within: Collection[Package]) -> tuple[Edge, ...]:
    """The edges of a shortest way from `start` to `end`, which there is, `within` a component."""
    came: dict[Package, Edge | None] = {start: None}
    waiting = deque([start])
    while end not in came:
        for edge in graph.needs.get(waiting.popleft(), ()):
            if edge.child in within and edge.child not in came:
                came[edge.child] = edge
                waiting.append(edge.child)
    steps: list[Edge] = []
    while (step := came[end]) is not None:
        steps.append(step)
        end = step.parent
    return tuple(reversed(steps))
