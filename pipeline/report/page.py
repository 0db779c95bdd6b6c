"""What the page of an image says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.artifact.manifest import Boot, Manifest, Package

State = Literal["passed", "failed", "skipped", "blocked", "reused"]
Outcome = Literal["failed", "blocked", "skipped", "unfinished", "passed", "reused"]
"""What came of an image, the worst first. Unfinished is one that nothing speaks against, and of which not all was
done: the run ended before, or a part of it was asked for.
"""


@dataclass(frozen=True)
class Row:
    """A stage or a check: how long it took (seconds), what came of it, and what it said or why it failed.

    `brief` is the line of a longer note that says most.
    """

    name: str
    seconds: float
    state: State
    note: str = ""
    brief: str = ""


@dataclass(frozen=True)
class Page:
    """What there is to say of an image in a run. `chart` is an SVG of its boot, if there is one.

    Journal, boot and packages are those of the machine, whether the image passed or not. `version` is that of what
    became golden; `finished` says whether the image came to its last stage.
    """

    image: str
    when: str
    stages: Sequence[Row]
    checks: Sequence[Row]
    log: str
    journal: str = ""
    chart: str = ""
    manifest: Manifest | None = None
    receive: Sequence[str] = ()
    boot: Boot | None = None
    packages: Sequence[Package] = ()
    version: str = ""
    finished: bool = True

    @property
    def rows(self) -> Sequence[Row]:
        return (*self.stages, *self.checks)

    @property
    def state(self) -> Outcome:
        """What came of the image: the worst of its rows."""
        states = {row.state for row in self.rows}
        worst: tuple[State, ...] = ("failed", "blocked", "skipped")
        if found := next((one for one in worst if one in states), None):
            return found
        return "unfinished" if not self.finished else "reused" if "reused" in states else "passed"

    @property
    def seconds(self) -> float:
        return sum(row.seconds for row in self.rows)
