"""The timeline of a session's images: from pytest's reports to `artifacts/timeline.svg`.

How long each image took is kept as well, for the next run to begin with the longest.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline import atomic, timeline
from pipeline.timeline import Span, State

FILE = "timeline.svg"
SECONDS = "logs/seconds.json"
"""A JSON object: the images that were built here, and how long each took the last time, in seconds."""

_JUMP = 60.0
"""Seconds by which a report comes later or earlier than those before it, where a clock has been set."""


class Clocks:
    """How far the clocks of workers are off, seen from when their reports arrive here.

    A report cannot arrive before what it tells of has ended; the quickest one of a worker tells the difference best,
    for as long as neither clock jumps.
    """

    def __init__(self) -> None:
        self._late: dict[str, list[float]] = {}
        self._told: dict[tuple[str, str, str | None], int] = {}

    def heard(self, report: pytest.TestReport) -> None:
        """Takes note of a report that has just arrived."""
        if report.start == 0:  # not a worker's own: it died
            return
        late = time.time() - report.stop
        known = self._late.setdefault(worker(report), [late])
        if abs(late - known[-1]) > _JUMP:
            known.append(late)
        known[-1] = min(known[-1], late)
        self._told[_key(report)] = len(known) - 1

    def here(self, report: pytest.TestReport) -> tuple[float, float]:
        """When a report's work began and ended, by the clock of this machine (Unix time)."""
        told = self._told.get(_key(report))
        late = self._late[worker(report)][told] if told is not None else 0.0
        off = late if abs(late) > 1.0 else 0.0  # less is the way of the report, not the clock
        return report.stop + off - report.duration, report.stop + off


def _key(report: pytest.TestReport) -> tuple[str, str, str | None]:
    return worker(report), report.nodeid, report.when


def worker(report: pytest.TestReport) -> str:
    """Which worker of pytest-xdist made a report; a session without any is one."""
    return str(getattr(report, "worker_id", "") or "this session")


def spans(reports: Mapping[str, Sequence[pytest.TestReport]], clocks: Clocks) -> list[Span]:
    """What was done for each image, stage by stage; what was blocked took no time and is left out.

    A check that was lost with its worker tells no beginning: it lasted from the one before until it was lost.
    """
    found: list[Span] = []
    for image, those in reports.items():
        stages: dict[str, list[pytest.TestReport]] = {}
        for report in those:
            if not getattr(report, "blocked", None) and report.start > 0:
                stages.setdefault(stage(report.nodeid), []).append(report)
        before = math.inf
        for name, ours in stages.items():
            times = [clocks.here(report) for report in ours]
            start, stop = min(begun for begun, _ in times), max(ended for _, ended in times)
            if start == stop and ours[0].failed:
                start = min(start, before)
            found.append(Span(image, name, worker(ours[0]), start, stop, _state(ours)))
            before = stop
    return found


def write(folder: Path, reports: Mapping[str, Sequence[pytest.TestReport]], clocks: Clocks) -> Path | None:
    """Draws the timeline as `folder/timeline.svg`; None if there is nothing to draw. Raises `PlaceError`."""
    drawn = spans(reports, clocks)
    if not drawn:
        return None
    path = folder / FILE
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(min(span.start for span in drawn)))
    took: dict[str, float] = {}
    for span in drawn:
        took[span.image] = round(took.get(span.image, 0.0) + span.seconds, 1)
    title = f"goldspawn: {len(took)} image{'s' if len(took) > 1 else ''}, {when}"
    atomic.write(path, timeline.draw(drawn, title))
    atomic.write(folder / SECONDS, json.dumps({**seconds(folder), **took}, indent=1) + "\n")
    return path


def seconds(folder: Path) -> dict[str, float]:
    """How long each image took when it was last built into `folder`; what cannot be read is not known."""
    with contextlib.suppress(OSError, ValueError):
        return {str(name): float(took) for name, took in json.loads((folder / SECONDS).read_text()).items()}
    return {}


def stage(nodeid: str) -> str:
    """The stage to which a check belongs, in a word."""
    file, _, name = nodeid.partition("::")
    if not file.endswith("image.toml"):
        return "acceptance"
    head, _, tail = name.partition("_")
    return head if tail != "poweroff" else tail


def _state(reports: Sequence[pytest.TestReport]) -> State:
    outcomes = {report.outcome for report in reports}
    if "failed" in outcomes:
        return "failed"
    if "skipped" in outcomes:
        return "skipped"
    notes = [str(note) for report in reports for key, note in report.user_properties if key == "goldspawn_note"]
    unchanged = any(re.match(r"(from \S+, )?reused\b", note) for note in notes)  # the base's candidate, too
    return "reused" if unchanged or any(getattr(report, "reused", None) for report in reports) else "ran"
