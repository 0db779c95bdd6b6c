"""What the page of a run says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from pipeline.artifact.manifest import Changes
from pipeline.report.page import Outcome, Page

_LONGEST = 300
"""Characters of what is said of an image; its page has all of it."""


@dataclass(frozen=True)
class Part:
    """An image in the page of the run. `file` is its own page, "" where it has none; `size` is its stream's, in bytes.

    `said` is in one line what failed, or why there is no more to say.
    """

    image: str
    state: Outcome
    said: str = ""
    file: str = ""
    seconds: float | None = None
    version: str = ""
    size: int | None = None
    boot: float | None = None
    changes: Changes | None = None

    @classmethod
    def of(cls, page: Page, file: str) -> Part:
        """From the page of the image."""
        made = page.manifest
        return cls(
            page.image, page.state, _said(page), file, page.seconds, page.version,
            made.stream.size if made is not None else None,
            page.boot.seconds if page.boot is not None else None,
            made.changes if made is not None else None,
        )  # fmt: skip


def _said(page: Page) -> str:
    if page.state == "passed":
        return ""
    if page.state == "unfinished":
        return f"ended after {page.rows[-1].name}" if page.rows else "not begun"
    ours = [row for row in page.rows if row.state == page.state]
    if page.state == "reused":
        return ours[0].note
    more = f" (and {len(ours) - 1} more)" if len(ours) > 1 and page.state == "failed" else ""
    said = shortened(ours[0].brief or ours[0].note)
    return f"{ours[0].name}: {said}{more}" if said else f"{ours[0].name}{more}"


def shortened(text: str) -> str:
    """A text as one line, cut where it is too long for the page of the run."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


@dataclass(frozen=True)
class Run:
    """A run: when it began, how long it took (seconds), where it built, and what became of each of its images.

    `stopped` says why it ended before its end, "" if it did not; `picture` is an SVG of its timeline; `earlier` are the
    pages of images that were not part of it: names, with the file and when that was written.
    """

    when: str
    seconds: float
    where: str
    images: Sequence[Part]
    stopped: str = ""
    picture: str = ""
    earlier: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many images there are of each outcome, the worst first; none that does not occur."""
        order: tuple[Outcome, ...] = get_args(Outcome)
        found = {state: sum(part.state == state for part in self.images) for state in order}
        return {state: number for state, number in found.items() if number}

    @property
    def ordered(self) -> list[Part]:
        """The images: those that somebody has to look at first, else in their order."""
        worst = [state for state in self.counts if state not in ("passed", "reused")]
        return sorted(self.images, key=lambda part: worst.index(part.state) if part.state in worst else len(worst))
