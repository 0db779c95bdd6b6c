"""A ring drawn for people: who needs whom, why, and what a person could change."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.portage.cycles import Cycle
from pipeline.portage.plan import Break
from pipeline.portage.report import UseChange


def draw(ring: Cycle, opened: Sequence[Break] = ()) -> str:
    """The ring as lines; a member at which it is opened is marked.

    ::

        ┌─▶ media-libs/freetype-2
        │      │ to build, :=
        │      ▼
        │   media-libs/harfbuzz-2     ✂ merge media-libs/harfbuzz-2 with USE=-ft for now
        │      │ to build, :=, USE=ft
        └──────┘
    """
    lines = []
    for index, edge in enumerate(ring.edges):
        cuts = [step for step in opened if edge.parent in step.packages]
        mark = f"     ✂ {cuts[0]}" if cuts else ""
        lines.append(f"{'┌─▶' if index == 0 else '│  '} {edge.parent}{mark}")
        lines.append(f"│      │ {edge.reason}")
        lines.append("│      ▼" if index < len(ring.edges) - 1 else "└──────┘")
    return "\n".join(lines)


def advice(ring: Cycle, suggestions: Sequence[UseChange] = ()) -> str:
    """What a person could change so that the ring is none, as lines."""
    lines = []
    for change in suggestions:
        if change.package in ring.members:
            lines.append(f'package.use: "{change.package.key} {" ".join(change.flags)}"')
    for edge in ring.edges:
        plain = [flag for flag in edge.flags if not flag.startswith("-")]
        if plain and not any(change.package == edge.parent for change in suggestions):
            lines.append(f'package.use: "{edge.parent.key} {" ".join("-" + flag for flag in plain)}"')
    builders = [edge.parent for edge in ring.edges if edge.builds]
    if builders:
        names = " and ".join(package.cpv for package in builders)
        lines.append(f"provide binary packages of {names}")
    if ring.members[0].root == "builder":
        lines.append("take a builder that has these already, such as a stage3")
    lines.append("mask one of them in package.mask, if another package can take its place")
    return "\n".join(f"- {line}" for line in lines)
