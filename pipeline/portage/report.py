"""What emerge reports of circular dependencies, read into packages, edges and cycles.

Three forms are read, alone or together:

- JSON (`--circular-deps-report=json`, Portage 3.0.83 and on): all cycles at once, each as names without roots, and
  the kinds and USE flags of the shortest only;
- the text behind `Error: circular dependencies:`, one cycle, with roots and kinds, in two forms: with the USE flags
  of an edge (3.0.83), and without (3.0.57, 3.0.69, 3.0.78), and Portage's suggestions below it;
- the graph that `--debug` adds on standard error in all of these versions: each package with its root and all that it
  needs. With it every cycle is known with roots and kinds, whatever the version, and so is what is not in a cycle.

Tried with Portage 3.0.57, 3.0.69, 3.0.78 and 3.0.83; their recorded outputs are in tests/portage/data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.portage.cycles import Cycle, Edge, Graph, Kind, Package, Root

NOTHING = Graph(())

MARK = "Error: circular dependencies:"

_NODE = (
    r"\((?P<cpv>\S+/\S+?):(?P<slot>[^:\s]+)::\S+, (?P<type>ebuild|binary|installed)(?P<state>[^()]*?)"
    r"(?: (?:to|in) '(?P<root>[^']*)')?\)"
)
_PARENT = re.compile(rf"{_NODE} (?:depends on|\(no children\))")
_CHILD = re.compile(rf"\s+{_NODE} \((?P<kind>\w+)(?:, USE=(?P<flags>[^)]*))?\)")
_KINDS = {"buildtime", "buildtime_slot_op", "runtime", "runtime_slot_op", "runtime_post"}
_CHANGE = re.compile(r"^- (?P<cpv>\S+) \(Change USE: (?P<flags>[^)]*)\)", re.M)
_LISTED = re.compile(r"^\[(?:ebuild|binary|nomerge)[^\]]*\]\s+(?P<cpv>\S+?)(?::\S*)?(?P<to> to \S+)?(?: |$)", re.M)


@dataclass(frozen=True)
class UseChange:
    """A change of USE flags of one package that Portage suggests: ("-nls", "+minimal")."""

    package: Package
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All that one resolution tells.

    `graph` holds every package that would be merged (empty where emerge ran without `--debug`), `tangle` the part of
    it that emerge could not put into an order. `form` names what was read: "json", "text" or "".
    """

    cycles: tuple[Cycle, ...] = ()
    suggestions: tuple[UseChange, ...] = ()
    graph: Graph = NOTHING
    tangle: Graph = NOTHING
    form: str = ""

    def __bool__(self) -> bool:
        return bool(self.cycles)


def read(stdout: str, stderr: str = "") -> Report:
    """What a resolution printed; a report without cycles where there is none.

    The root of a package is that of the graph or the text; where neither is there, that of the list above the JSON;
    and where that has none either, the target. Raises `ValueError` for JSON that is none.
    """
    data = _json(stdout)
    text = stderr if MARK in stderr else stdout if MARK in stdout else ""
    whole, tangle = _graphs(stderr.split(MARK)[-2] if MARK in stderr else stderr)
    if data is None and not text:
        return Report(graph=whole)
    told = _guarded(_told(text), text)
    known = Graph(_with_flags((*tangle.edges, *(() if tangle.edges else told)), told))
    if data is not None:
        return _from_json(data, known, _roots_listed(stdout + stderr), whole)
    members = {edge.parent: edge.parent for edge in told}
    suggestions = tuple(_suggested(text[text.rindex(MARK) :], members))
    cycles = tuple(known.cycles()) or ((Cycle(told),) if told else ())
    return Report(cycles, suggestions, whole, known, "text")


def _json(stdout: str) -> dict[str, Any] | None:
    """The object in the output: a line that is `{` begins it."""
    start = re.search(r"^\{$", stdout, re.M)
    if start is None:
        return None
    found, _ = json.JSONDecoder().raw_decode(stdout[start.start() :])
    return found if isinstance(found, dict) and "cycles" in found else None


def _package(found: re.Match[str]) -> Package | None:
    """The package of a matched node, if it is to be merged."""
    if "scheduled for merge" not in found["state"]:
        return None
    cpv = found["cpv"]
    if found["type"] == "binary":  # `name-1.2-r3-4`: the last number is the build's, where there are several
        cpv = re.sub(r"(-\d[^-]*(?:-r\d+)?)-\d+$", r"\1", cpv)
    root: Root = "target" if found["root"] else "builder"
    try:
        return Package.of(cpv, slot=found["slot"], root=root)
    except ValueError:
        return None


def _kind(text: str) -> Kind:
    return text if text in _KINDS else "soft"  # type: ignore[return-value]


def _graphs(stderr: str) -> tuple[Graph, Graph]:
    """The last whole graph that `--debug` printed, and the tangle that was left of it.

    emerge resolves again with each backtrack, so earlier graphs are of no worth.
    """
    if not (starts := list(re.finditer(r"^digraph:$", stderr, re.M))):
        return Graph(()), Graph(())
    blocks = [_block(block) for block in _paragraphs(stderr[starts[-1].end() :])]
    filled = [block for block in blocks if block is not None]
    if not filled:
        return Graph(()), Graph(())
    return filled[0], filled[-1] if len(filled) > 1 else Graph(())


def _paragraphs(text: str) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in text.splitlines():
        if line.strip():
            lines.append(line)
        elif lines:
            yield lines
            lines = []
    if lines:
        yield lines


def _block(lines: Sequence[str]) -> Graph | None:
    """The graph of one paragraph, None for a paragraph of something else."""
    if not re.search(r" (?:depends on|\(no children\))\s*$", lines[0]):
        return None
    edges: list[Edge] = []
    alone: set[Package] = set()
    parent: Package | None = None
    for line in lines:
        if (head := _PARENT.match(line)) is not None:
            parent = _package(head)
            if parent is not None:
                alone.add(parent)
        elif not line.startswith(" "):
            parent = None  # a set or an argument
        elif parent is not None and (found := _CHILD.match(line)) is not None:
            child = _package(found)
            if child is not None:
                edges.append(Edge(parent, child, _kind(found["kind"])))
    return Graph(tuple(sorted(edges, key=lambda edge: (edge.parent, edge.child))), frozenset(alone))


def _told(text: str) -> tuple[Edge, ...]:
    """The edges of the one cycle that the text tells."""
    if not text:
        return ()
    lines = text[text.rindex(MARK) :].splitlines()[1:]
    chain = [line for line in lines if re.match(rf"\s*{_NODE} (?:depends on|\()", line)]
    edges: list[Edge] = []
    parent: Package | None = None
    for line in chain:
        if (head := _PARENT.match(line)) is not None:
            if edges:
                break  # the suggestions of others may follow
            parent = _package(head)
        elif parent is not None and (found := _CHILD.match(line)) is not None:
            child = _package(found)
            if child is None:
                return ()
            edges.append(Edge(parent, child, _kind(found["kind"]), tuple((found["flags"] or "").split())))
            parent = child
    return tuple(edges) if edges and edges[-1].child == edges[0].parent else ()


def _with_flags(edges: Iterable[Edge], told: Iterable[Edge]) -> tuple[Edge, ...]:
    """The edges, with flags where the text has them."""
    flags = {(edge.parent, edge.child): edge.flags for edge in told if edge.flags}
    return tuple(replace(edge, flags=flags.get((edge.parent, edge.child), edge.flags)) for edge in edges)


def _suggested(text: str, members: dict[Package, Package]) -> Iterator[UseChange]:
    for found in _CHANGE.finditer(text):
        for member in members:
            if member.cpv == found["cpv"]:
                yield UseChange(member, tuple(found["flags"].split()))
                break


def _guarded(told: tuple[Edge, ...], text: str) -> tuple[Edge, ...]:
    """The edges of a text without flags, with those of the suggestions: each is for an edge of this very cycle."""
    changes = {found["cpv"]: tuple(found["flags"].split()) for found in _CHANGE.finditer(text)}
    return tuple(
        replace(edge, flags=edge.flags or tuple(flag.lstrip("+-") for flag in changes.get(edge.parent.cpv, ())))
        for edge in told
    )


def _roots_listed(text: str) -> dict[str, Root]:
    """The root of each package that the merge list names in one root only."""
    roots: dict[str, set[Root]] = {}
    for found in _LISTED.finditer(text):
        roots.setdefault(found["cpv"], set()).add("target" if found["to"] else "builder")
    return {cpv: next(iter(found)) for cpv, found in roots.items() if len(found) == 1}


def _from_json(data: dict[str, Any], known: Graph, listed: dict[str, Root], whole: Graph) -> Report:
    """The report of Portage 3.0.83 and on: names, to which `known` gives roots and kinds."""
    places: dict[str, list[Package]] = {}
    for package in sorted(known.packages):
        places.setdefault(package.cpv, []).append(package)

    def candidates(cpv: str) -> list[Package]:
        try:
            return places.get(cpv) or [Package.of(cpv, root=listed.get(cpv, "target"))]
        except ValueError:
            return []  # a node that is no package, such as a set

    shortest: dict[tuple[str, str], dict[str, Any]] = {
        (edge["parent"], edge["child"]): edge for edge in data.get("shortest_cycle", ())
    }

    def edge(parent: Package, child: Package) -> Edge | None:
        """The edge between two, as far as it is known; None where the graph knows that there is none."""
        told = shortest.get((parent.cpv, child.cpv))
        flags = tuple(told["affecting_use"]) if told is not None else ()
        for found in known.needs.get(parent, ()):
            if found.child == child:
                return replace(found, flags=flags or found.flags)
        if known.edges:
            return None
        return Edge(parent, child, _kind(told["priority"]) if told is not None else "buildtime", flags)

    cycles: dict[Cycle, None] = {}
    for names in data["cycles"]:
        for ring in _rings([candidates(name) for name in names], edge):
            if ring.stops:
                cycles.setdefault(ring.canonical)
    flags = {(found.parent, found.child): found for ring in cycles for found in ring.edges if found.flags}
    inside = {member for ring in cycles for member in ring.members}
    tangle = Graph(
        tuple(
            flags.get((found.parent, found.child), found)
            for found in (known.edges or [found for ring in cycles for found in ring.edges])
            if found.parent in inside and found.child in inside
        )
    )
    in_shortest = {cpv for pair in shortest for cpv in pair}
    suggestions = tuple(
        UseChange(member, tuple(("+" if on else "-") + flag for flag, on in sorted(change.items())))
        for solution in data.get("solutions", ())
        for member in candidates(solution["package"])
        if solution["package"] in in_shortest and (member in inside)
        for change in solution["use_changes"]
        if change
    )
    return Report(tuple(cycles), suggestions, whole, tangle, "json")


def _rings(places: Sequence[list[Package]], edge: Callable[[Package, Package], Edge | None]) -> Iterator[Cycle]:
    """The rings that a list of names stands for: one a root at most, since what is merged into the builder needs
    nothing of the target."""
    roots: tuple[Root, ...] = ("builder", "target")
    for root in roots:
        members = [package for place in places for package in place if package.root == root]
        if len(members) == len(places):
            edges = [edge(parent, child) for parent, child in zip(members, (*members[1:], *members[:1]), strict=True)]
            if all(edges):
                yield Cycle(tuple(found for found in edges if found is not None))
