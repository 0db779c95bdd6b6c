"""Gentoo's side of an image: circular build dependencies found, opened and mended, for any pair of roots.

    emerge = Emerge("/mnt/gentoo", Path("/mnt/gentoo"))
    print(plan(emerge, ["@system"]))             what would be done; merges nothing
    print(resolve(emerge, ["@system"]))          merges the sets, whatever cycles are in the way

`python -m pipeline.portage --help` does the same on a command line.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.portage.asking import at_hand, resolution
from pipeline.portage.breaking import Trial
from pipeline.portage.cycles import Cycle, Edge, Graph, Package
from pipeline.portage.emerge import Emerge
from pipeline.portage.memory import Memory
from pipeline.portage.outcome import Outcome, Unbreakable
from pipeline.portage.plan import Break, Knowledge, Plan, make
from pipeline.portage.report import Report, read
from pipeline.portage.resolve import Options, resolve

__all__ = [
    "Break", "Cycle", "Edge", "Emerge", "Graph", "Knowledge", "Memory", "Options", "Outcome", "Package", "Plan",
    "Report", "Trial", "Unbreakable", "make", "plan", "plan_of", "read", "resolution", "resolve",
]  # fmt: skip


def plan(emerge: Emerge, sets: Sequence[str], options: Options | None = None) -> Plan:
    """The breaks that would open all cycles of the sets, from one resolution: nothing is merged.

    Raises what `resolution` raises.
    """
    return plan_of(emerge, resolution(emerge, sets), options)


def plan_of(emerge: Emerge, report: Report, options: Options | None = None) -> Plan:
    """The plan for a report that was read already; asks emerge for binary packages, where these may be taken."""
    options = options or Options()
    members = {member for ring in report.cycles for member in ring.members}
    binaries = at_hand(emerge, members) if options.binaries and members else frozenset()
    return make(report, Knowledge(binaries, (), options.costs, options.hollow, spare_builder=options.spare_builder))
