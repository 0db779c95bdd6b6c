"""From pytest's reports to a page for each image: `artifacts/reports/NAME.html`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pipeline import remains
from pipeline.artifact import manifest, receive
from pipeline.errors import InputError, PlaceError
from pipeline.remains import Remains
from pipeline.report import Page, Row, State, render

FOLDER = "reports"
_MOST = 2_000_000
"""Characters of a log that a page shows: its end."""


def write(artifacts: Path, reports: Mapping[str, Sequence[pytest.TestReport]]) -> list[Path]:
    """Writes the pages of a session's images; returns where they are. Raises `PlaceError` if one cannot be written."""
    return [_write(artifacts, image, those) for image, those in reports.items()]


def _write(artifacts: Path, image: str, reports: Sequence[pytest.TestReport]) -> Path:
    path = artifacts / FOLDER / f"{image}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}")
        partial.write_text(render(_page(artifacts, image, reports)), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise PlaceError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def _page(artifacts: Path, image: str, reports: Sequence[pytest.TestReport]) -> Page:
    stages: list[Row] = []
    tests: list[Row] = []
    for row, is_stage in _rows(reports):
        (stages if is_stage else tests).append(row)
    folder = artifacts / image
    passed = any(row.name == "snapshot" and row.state == "passed" for row in stages)
    log = artifacts / "logs" / f"{image}.log"
    made, left = None, Remains()
    if passed:  # else what lies there is of an earlier run
        with contextlib.suppress(InputError):
            made = manifest.load(folder)
    if made is None:
        left = remains.load(log)
    return Page(
        image,
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(min(report.start for report in reports))),
        stages,
        tests,
        _text(log),
        _text(folder / "journal.log") if made is not None else left.journal[-_MOST:],
        _text(folder / "boot.svg") if made is not None else left.chart,
        made,
        [line.strip() for line in receive.lines(made, folder)[1:]] if made is not None else (),
        made.boot if made is not None else left.boot,
        made.packages if made is not None else left.packages,
    )


def _rows(reports: Sequence[pytest.TestReport]) -> Iterator[tuple[Row, bool]]:
    """A row for each check, and whether it is one of the pipeline's own."""
    by_check: dict[str, list[pytest.TestReport]] = {}
    for report in reports:
        by_check.setdefault(report.nodeid, []).append(report)
    for nodeid, those in by_check.items():
        file, _, name = nodeid.partition("::")
        final = next((one for one in those if one.outcome != "passed"), those[-1])
        notes = [str(note) for one in those for key, note in one.user_properties if key == "goldspawn_note"]
        state, said = _became(final, notes[0] if notes else "")
        yield Row(name, sum(one.duration for one in those), state, said), file.endswith("image.toml")


def _became(report: pytest.TestReport, note: str) -> tuple[State, str]:
    if blocked := getattr(report, "blocked", None):
        return "blocked", str(blocked)
    if reused := getattr(report, "reused", None):
        return "reused", str(reused)
    if report.failed:
        return "failed", report.longreprtext
    if report.skipped:
        return "skipped", str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
    return "passed", note


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text if len(text) <= _MOST else f"… ({path} has the rest)\n{text[-_MOST:]}"
