"""From pytest's reports to a page for each image, `artifacts/reports/NAME.html`, and its row in the page of the run."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pipeline import atomic, remains
from pipeline.artifact import manifest, receive
from pipeline.artifact.manifest import Manifest
from pipeline.errors import InputError
from pipeline.remains import Remains
from pipeline.report import Page, Part, Row, State, render

FOLDER = "reports"
INDEX = "index.html"
"""The page of the run."""

_MOST = 2_000_000
"""Characters of a log that a page shows: its end."""


def write(artifacts: Path, reports: Mapping[str, Sequence[pytest.TestReport]]) -> list[Part]:
    """Writes the pages of a session's images; returns what came of each. Raises `PlaceError` if it cannot write one."""
    return [_write(artifacts, image, those) for image, those in reports.items()]


def file(image: str) -> str:
    """The name of an image's page: no image's name ends in an underscore."""
    return "index_.html" if image == "index" else f"{image}.html"


def _write(artifacts: Path, image: str, reports: Sequence[pytest.TestReport]) -> Part:
    page = _page(artifacts, image, reports)
    atomic.write(artifacts / FOLDER / file(image), render(page))
    return Part.of(page, file(image))


def _page(artifacts: Path, image: str, reports: Sequence[pytest.TestReport]) -> Page:
    stages: list[Row] = []
    tests: list[Row] = []
    for row, is_stage in _rows(reports):
        (stages if is_stage else tests).append(row)
    folder = artifacts / image
    last = next((row for row in stages if row.name == "snapshot"), None)
    version = _told(reports, "goldspawn_version")
    log = artifacts / "logs" / f"{image}.log"
    made = _made(folder, version) if last is not None and last.state == "passed" else None
    left = remains.load(log) if made is None else Remains()
    return Page(
        image,
        moment(min((report.start for report in reports if report.start > 0), default=time.time())),
        stages,
        tests,
        _text(log),
        _text(folder / "journal.log") if made is not None else _plain(left.journal[-_MOST:]),
        _text(folder / "boot.svg") if made is not None else left.chart,
        made,
        [line.strip() for line in receive.lines(made, folder)[1:]] if made is not None else (),
        made.boot if made is not None else left.boot,
        made.packages if made is not None else left.packages,
        version,
        finished=last is not None,
    )


def moment(seconds: float) -> str:
    """A moment (Unix time) as it is read."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _made(folder: Path, version: str) -> Manifest | None:
    """What lies in the artifact's folder, if it is of this version and no earlier one."""
    with contextlib.suppress(InputError):
        found = manifest.load(folder)
        return found if found.version == version else None
    return None


def _rows(reports: Sequence[pytest.TestReport]) -> Iterator[tuple[Row, bool]]:
    """A row for each check, and whether it is one of the pipeline's own."""
    by_check: dict[str, list[pytest.TestReport]] = {}
    for report in reports:
        by_check.setdefault(report.nodeid, []).append(report)
    for nodeid, those in by_check.items():
        where, _, name = nodeid.partition("::")
        final = next((one for one in those if one.outcome != "passed"), those[-1])
        state, said = _became(final, _told(those, "goldspawn_note"))
        row = Row(name, sum(one.duration for one in those), state, said, brief(said) if state == "failed" else "")
        yield row, where.endswith("image.toml")


def _told(reports: Sequence[pytest.TestReport], key: str) -> str:
    """What reports have under a key, "" if nothing."""
    return next((str(value) for one in reports for known, value in one.user_properties if known == key), "")


def _became(report: pytest.TestReport, note: str) -> tuple[State, str]:
    if blocked := getattr(report, "blocked", None):
        return "blocked", str(blocked)
    if reused := getattr(report, "reused", None):
        return "reused", str(reused)
    if report.failed:
        return "failed", _plain(report.longreprtext)
    if report.skipped:
        return "skipped", str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
    return "passed", note


def brief(failure: str) -> str:
    """The line of a failure that says most: of a traceback of pytest's its first error, of our own errors the first."""
    error = re.search(r"^E {3,}(\S.*)", failure, re.MULTILINE)
    return error[1] if error else next((line.strip() for line in failure.splitlines() if line.strip()), "")


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return _plain(text if len(text) <= _MOST else f"… ({path} has the rest)\n{text[-_MOST:]}")


def _plain(text: str) -> str:
    """A text without what would colour it on a terminal (ECMA-48, control sequences)."""
    return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", text)
