"""Sets merged into a root whatever cycles are in the way: plan, act, resolve again; then mend; then prove it.

    report = resolution(emerge, ["@system"])     what emerge would do, and which cycles keep it from that
    plan   = make(report)                        where to open them (pipeline.portage.plan)
    outcome = resolve(emerge, ["@system"])       all of it, until the sets are merged and sound

Each round opens something, and there are at most `ROUNDS`; a break that fails is planned around within its round. The
builder's cycles come first: its tools are made sound before anything of the target is built with them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from pipeline.errors import CheckFailed, CommandFailed, GoldspawnError
from pipeline.portage.asking import CURRENT, LACKING, at_hand, resolution
from pipeline.portage.breaking import Trial, perform, prepare, reason, spoilt_by
from pipeline.portage.cycles import Cycle, Graph, Package, Root
from pipeline.portage.emerge import Emerge
from pipeline.portage.installed import clear_leftovers, installed
from pipeline.portage.memory import Memory, Unfinished
from pipeline.portage.outcome import Outcome, Unbreakable
from pipeline.portage.plan import Break, Knowledge, Plan, make
from pipeline.portage.rebuild import half, rebuild
from pipeline.portage.report import Report
from pipeline.portage.sound import faults

ROUNDS = 24
"""How often the sets are resolved at most. A distribution's @system takes two."""


@dataclass(frozen=True)
class Options:
    """How to go about it.

    `binaries`: rings may be opened with binary packages at hand. `costs` and `hollow` are for the planner. Without a
    `trial` a --nodeps is done at once; a merge that fails leaves the root as it was, but for what its phases did
    outside of their own folders. `memory` keeps plans. `spare_builder` as `plan.Knowledge` has it.
    With `update` what the root held before is brought to its configuration as well: versions and USE flags.
    """

    binaries: bool = False
    costs: dict[str, float] = field(default_factory=dict)
    hollow: frozenset[str] = frozenset()
    trial: Trial | None = None
    memory: Memory | None = None
    spare_builder: bool = False
    update: bool = False


def resolve(
    emerge: Emerge, sets: Sequence[str], options: Options | None = None, *, say: Callable[[str], None] | None = None
) -> Outcome:
    """Merges the sets, and opens and mends the cycles that are in the way. `say` gets a line for each step.

    Raises `Unbreakable`, `CommandFailed` where a package cannot be built, `CheckFailed` where the result is not as
    if there never had been a cycle, and what `resolution` raises.
    """
    return _Work(emerge, tuple(sets), options or Options(), say or emerge.log.line).run()


class _Work:
    """One call of `resolve`."""

    def __init__(self, emerge: Emerge, sets: tuple[str, ...], options: Options, say: Callable[[str], None]) -> None:
        self.emerge = emerge
        self.sets = sets
        self.options = options
        self.say = say
        self.plans: list[Plan] = []
        self.done: list[Break] = []
        self.failed: dict[Break, str] = {}
        self.vain: dict[Break, int] = {}  # and after how many that were made
        self.builder_opened = False
        self.waves: list[tuple[Package, ...]] = []
        self.members: set[Package] = set()
        self.spoilt: set[str] = set()
        self.resolutions = 0
        self.remembered = False
        roots: list[Root] = ["builder", "target"]
        self.unfinished = {root: Unfinished.of(emerge, root) for root in roots}

    def run(self) -> Outcome:
        started = time.monotonic()
        if not self.emerge.own:  # somebody else may be merging into a host's own root
            for name in clear_leftovers(self.emerge.seen):
                self.say(f"removed what a killed emerge left: {name}")
        place = self.options.memory.place(self.emerge, self.sets) if self.options.memory is not None else None
        if self.options.memory is not None and place is not None:
            self._recall(*self.options.memory.recall(place))
        self._merge_all(LACKING)
        if self.options.update:
            self._merge_all(CURRENT)
        self._assert()
        if self.options.memory is not None and place is not None and self.done and not self.remembered:
            self.options.memory.keep(place, self.done, self.spoilt)
        return Outcome(
            tuple(self.plans), tuple(self.done), tuple(self.failed), tuple(self.waves), self.resolutions,
            self.remembered, time.monotonic() - started,
        )  # fmt: skip

    def _recall(self, breaks: Sequence[Break], spoilt: Iterable[str]) -> None:
        """Makes breaks that solved the same once, without asking; lets go of them at the first that does not fit.

        Where binary packages open all cycles by now no such break is needed: then they are solved anew.
        """
        incomplete = {package for step in breaks if step.incomplete for package in step.packages}
        if self.options.binaries and at_hand(self.emerge, incomplete):
            self.resolutions += 1
            report = resolution(self.emerge, self.sets)
            if all(step.method == "binary" for step in make(report, self._knowledge(report)).breaks):
                return
        self.spoilt |= set(spoilt)
        for step in breaks:
            self.say(f"as last time: {step}")
            if not self._make(step, Graph(())):
                self.failed.clear()
                self.vain.clear()
                return
        self.remembered = bool(breaks)

    def _merge_all(self, want: Sequence[str]) -> None:
        """Merges the sets as wanted, and leaves no cycle and nothing incomplete behind."""
        self._open(want)
        self.say(f"merging {' '.join(self.sets)}")
        self.emerge.merge(*want, *self._unspoilt(), *self.sets)
        self._mend("builder")
        self._mend("target")

    def _open(self, want: Sequence[str]) -> None:
        """Rounds of resolving and breaking, until emerge reports no cycle."""
        seen: set[frozenset[Cycle]] = set()
        for _ in range(ROUNDS):
            self.resolutions += 1
            report = resolution(self.emerge, self.sets, want)
            if want == CURRENT:  # a flag that is changed for now would be changed back at once
                report = replace(report, suggestions=())
            self._note_spoilt(report.graph)
            if not report.cycles:
                return
            self.remembered = False
            if frozenset(report.cycles) in seen:
                raise Unbreakable(report.cycles[0], report, self.failed)
            seen.add(frozenset(report.cycles))
            self._open_all(report)
        raise GoldspawnError(f"after {ROUNDS} rounds there are still cycles", hint="say what is left with: plan")

    def _open_all(self, report: Report) -> None:
        """Makes breaks until each ring of a report is open, or nothing more can be opened before emerge is asked again.

        A break that fails teaches the plan, and costs no resolution. It is in vain for as long as the roots are what
        they were: what another break brings may be what it lacked.
        """
        made: set[Break] = set()
        known = self._knowledge(report)
        while True:
            plan = make(report, replace(known, vain=frozenset(self.vain), made=frozenset(made)))
            steps = _helpful(plan)
            if made and not steps:
                return
            self.plans.append(plan)
            for line in str(plan).splitlines():
                self.say(f"plan: {line}")
            if steps:
                made |= self._act(steps, report.graph)
            elif plan.closed and not self._forgive(plan.closed):
                raise Unbreakable(plan.closed[0], report, self.failed)

    def _forgive(self, rings: Iterable[Cycle]) -> bool:
        """Lets members of closed rings that failed before the last break was made be tried again; whether any did."""
        members = {member for ring in rings for member in ring.members}
        again = [step for step, before in self.vain.items() if before < len(self.done) and members & set(step.packages)]
        for step in again:
            del self.vain[step]
        return bool(again)

    def _act(self, steps: Sequence[Break], graph: Graph) -> set[Break]:
        """Makes breaks up to the first that fails, and returns those made. The builder is whole before the target."""
        made: set[Break] = set()
        for step in steps:
            if step.package.root == "target":
                self._finish_builder(graph)
            if not self._make(step, graph):
                return made
            made.add(step)
        self._finish_builder(graph)
        return made

    def _knowledge(self, report: Report) -> Knowledge:
        options = self.options
        binaries: frozenset[Package] = frozenset()
        if options.binaries:
            binaries = at_hand(self.emerge, {member for ring in report.cycles for member in ring.members})
        return Knowledge(binaries, (), options.costs, options.hollow, spare_builder=options.spare_builder)

    def _make(self, step: Break, graph: Graph) -> bool:
        """Makes one break; False if that failed, and then the root is as it was."""
        self.say(str(step))
        begun = int(time.time())
        try:
            prepare(self.emerge, step, spoilt=self.spoilt)
            trial = self.options.trial if step.method == "nodeps" else None
            if trial is not None:
                trial.build(self.emerge, step)
            if step.incomplete:
                self.unfinished[step.package.root].add(step.packages, now=begun)
                self.spoilt |= spoilt_by(step, graph)
            self._perform(step, trial)
        except CommandFailed as error:
            for package in step.packages:
                tree = self.emerge.tree(package.root)
                if tree is None or package.cpv not in installed(tree, package.root):
                    self.unfinished[package.root].drop(package)
            self.failed[step] = reason(error)
            self.vain[step] = len(self.done)
            self.say(f"in vain: {step}: {self.failed[step]}")
            return False
        self.done.append(step)
        self.builder_opened |= step.package.root == "builder"
        self.members |= set(step.packages)
        return True

    def _perform(self, step: Break, trial: Trial | None) -> None:
        """Makes a break in the roots themselves and notes all that is incomplete now."""
        root = step.package.root
        tree = self.emerge.tree(root)
        before = {entry.counter for entry in installed(tree, root).values()} if tree is not None else set()
        perform(self.emerge, step, trial)
        if not step.incomplete:
            return
        packages = set(step.packages)
        if step.method == "use" and tree is not None:  # what came along has been merged with the flag, too
            plain = {flag.lstrip("+-") for flag in step.flags}
            for entry in installed(tree, root).values():
                if entry.counter not in before and entry.flags & plain:
                    packages.add(entry.package)
            self.unfinished[root].add(packages, now=int(time.time()))
            self.members |= packages
        for package in packages:
            self.unfinished[root].seen(half(self.emerge, package))

    def _finish_builder(self, graph: Graph) -> None:
        """Merges what the target needs of the builder, and mends what was broken there, before it builds the target."""
        if not self.builder_opened:
            return
        self.builder_opened = False
        tools = {
            edge.child.atom for edge in graph.edges if edge.parent.root == "target" and edge.child.root == "builder"
        }
        if not tools or self.emerge.own:
            return
        self.say(f"completes the builder: {len(tools)} packages that the target is built with, and what they need")
        with contextlib.suppress(CommandFailed):  # other cycles are still in the way: the next round opens them
            self.emerge.merge("--oneshot", "--noreplace", *self._unspoilt(), *sorted(tools), at="builder")
            self._mend("builder")

    def _note_spoilt(self, graph: Graph) -> None:
        """Packages that are built against something incomplete make no binary packages for others."""
        for step in self.done:
            self.spoilt |= spoilt_by(step, graph)

    def _unspoilt(self) -> list[str]:
        return [f"--buildpkg-exclude={' '.join(sorted(self.spoilt))}"] if self.spoilt else []

    def _mend(self, root: Root) -> None:
        unfinished = self.unfinished[root]
        if not unfinished.halves:
            return
        halves = unfinished.as_halves()
        self.members |= {found.package for found in halves}
        self.waves += rebuild(self.emerge, root, halves, since=unfinished.since, say=self.say)
        unfinished.done()

    def _assert(self) -> None:
        if not self.members and not self.options.update:
            return
        self.say("checking flags, :=, linkage, and that emerge has nothing left to do")
        if lines := faults(self.emerge, self.sets, self.members):
            shown = "\n".join(f"  {line}" for line in lines[:20])
            raise CheckFailed(f"the root is not as if all had been merged in order:\n{shown}")


def _helpful(plan: Plan) -> tuple[Break, ...]:
    """The breaks of a plan that help on. While a ring of the builder is closed, nothing of the target does."""
    if any(ring.members[0].root == "builder" for ring in plan.closed):
        return tuple(step for step in plan.breaks if step.package.root == "builder")
    return plan.breaks
