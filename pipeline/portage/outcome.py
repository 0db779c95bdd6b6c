"""What came of resolving: what was planned, broken and built again; or the ring that nothing opens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import GoldspawnError
from pipeline.portage.cycles import Cycle, Package
from pipeline.portage.drawing import advice, draw
from pipeline.portage.plan import Break, Plan
from pipeline.portage.report import Report


@dataclass(frozen=True)
class Outcome:
    """What was done: every round's plan, the breaks that worked, those that did not, and what was built again."""

    plans: tuple[Plan, ...] = ()
    breaks: tuple[Break, ...] = ()
    failed: tuple[Break, ...] = ()
    rebuilt: tuple[tuple[Package, ...], ...] = ()
    resolutions: int = 0
    remembered: bool = False
    seconds: float = 0.0

    def after(self, first: Outcome) -> Outcome:
        """This and what was done before it, as one."""
        return Outcome(
            first.plans + self.plans, first.breaks + self.breaks, first.failed + self.failed,
            first.rebuilt + self.rebuilt, first.resolutions + self.resolutions,
            first.remembered and self.remembered, first.seconds + self.seconds,
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """For the manifest of an artifact."""
        return {
            "cycles": self.plans[0].cycles if self.plans else 0,
            "breaks": Plan(self.breaks).as_json(),
            "failed": Plan(self.failed).as_json(),
            "rebuilt": [[{"package": one.cpv, "root": one.root} for one in wave] for wave in self.rebuilt],
            "resolutions": self.resolutions,
            "remembered": self.remembered,
            "seconds": round(self.seconds, 1),
        }

    def __str__(self) -> str:
        if not self.breaks:
            return f"no cycles ({self.seconds:.0f} s)"
        again = sum(len(wave) for wave in self.rebuilt)
        breaks = f"{len(self.breaks)} break{'s' if len(self.breaks) != 1 else ''}"
        return f"{breaks} in {self.resolutions} resolutions, {again} built again ({self.seconds:.0f} s)"


class Unbreakable(GoldspawnError):
    """A ring that cannot be opened: the message has its drawing."""

    def __init__(self, ring: Cycle, report: Report, failed: Mapping[Break, str] | None = None) -> None:
        self.ring = ring
        tried = "".join(f"\ntried in vain: {step}: {why}" for step, why in (failed or {}).items())
        super().__init__(
            f"packages need each other to be built, and nothing opens the ring:\n\n{draw(ring)}\n{tried}\n"
            f"what could be changed:\n{advice(ring, report.suggestions)}"
        )
