"""The report of a run and an image: one HTML page that stands by itself, to be read in any browser.

Knows nothing of pytest: what was checked comes in as rows, what was built as a manifest.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.artifact.manifest import Boot, Manifest, Package
from pipeline.artifact.room import size

State = Literal["passed", "failed", "skipped", "blocked", "reused"]

_TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Row:
    """A stage or a check: how long it took (seconds), what came of it, and what it said or why it failed."""

    name: str
    seconds: float
    state: State
    note: str = ""


@dataclass(frozen=True)
class Page:
    """What there is to say of an image in a run. `folder` is its artifact's; `chart` an SVG of its boot, if any.

    Journal, boot and packages are those of the machine, whether the image passed or not.
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

    @property
    def state(self) -> State:
        """What came of the image: the worst of its rows."""
        states = {row.state for row in (*self.stages, *self.checks)}
        worst: tuple[State, ...] = ("failed", "blocked", "skipped")
        return next((one for one in worst if one in states), "passed")

    @property
    def seconds(self) -> float:
        return sum(row.seconds for row in (*self.stages, *self.checks))


def render(page: Page) -> str:
    """The page as HTML."""
    import jinja2  # slow to import, and only the process that owns the terminal needs it

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["size"] = size
    # As a picture it runs no script, and its styles are its own.
    chart = base64.b64encode(page.chart.encode()).decode() if page.chart else ""
    return environment.from_string(_TEMPLATE.read_text()).render(page=page, manifest=page.manifest, chart=chart)
