"""What was found: which checks of an image passed in this run, what blocks what, and how a failure reads."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import pytest

from pipeline.build import FOUNDATIONS
from pipeline.errors import GoldspawnError
from pipeline.image import FILE
from pipeline.masking import masked
from pipeline.plugin.collect import image_folder, image_name, is_stage
from pipeline.plugin.options import settings
from pipeline.plugin.whole import whole
from pipeline.progress import Progress, report
from pipeline.reuse.verified import Verdict


class Blocked(Exception):
    """A check that cannot be made, because a stage below it failed."""


class Reused(Exception):
    """A check that need not be made: it passed on this very snapshot, as the message says when."""


_REUSED = pytest.StashKey[str]()


@dataclass(frozen=True)
class Outcome:
    """One check: `result` is passed, failed, skipped, deselected, or uncollected where this session was not
    told of it (then `name` may be that of a whole file); `seconds` what it took, its fixtures included.
    """

    name: str
    result: str
    seconds: float


class Verdicts:
    """Follows all checks of all images of this session, from collection to their reports."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._expected: dict[str, list[str]] = {}
        self._left_out: dict[str, list[str]] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._blocked: dict[str, str] = {}

    def outcomes(self, image: str) -> list[Outcome]:
        """The checks of an image but the last, `snapshot`, which asks: in order, with what came of them so far."""
        found = [self._outcomes.get(name, Outcome(name, "deselected", 0.0)) for name in self._expected.get(image, ())]
        return [*found, *(Outcome(name, "uncollected", 0.0) for name in self._left_out.get(image, ()))]

    def failed(self, image: str) -> list[str]:
        """The names of the checks of an image that have failed so far."""
        return [one.name.rpartition("::")[2] for one in self.outcomes(image) if one.result == "failed"]

    def spotless(self, image: str) -> bool:
        """Whether no check of an image has failed so far, and none was left out."""
        return all(one.result in ("passed", "started") for one in self.outcomes(image))

    def covers(self, image: str, verdict: Verdict) -> bool:
        """Whether an earlier verdict is of just the checks that the image has, as far as this session knows them."""
        passed = _within(image, [one.name for one in verdict.checks])
        known = _within(image, self._expected[image])
        return bool(known) and (known <= passed if self._left_out[image] else known == passed)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Iterator[None]:
        folders = {folder.name: folder for item in items if (folder := image_folder(item.path)) is not None}
        for item in items:
            name = image_name(item)
            if name is not None and not (is_stage(item) and item.name == "snapshot"):
                self._expected.setdefault(name, []).append(item.nodeid)
        collected = {item.nodeid for item in items}
        for name, folder in folders.items():
            self._expected.setdefault(name, [])
            left = whole(self._config).left_out(folder, collected)
            self._left_out[name] = [one for one in left if not one.endswith(f"{FILE}::snapshot")]
        yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        name = image_name(item)
        if name is not None and name not in self._blocked:
            report(Progress(name, item.name, "begin"))
        try:
            return (yield)
        finally:
            if name is not None:
                report(Progress(name, item.name, "end"))

    # The innermost wrapper: what pytest's own have set up by then is what they take down again.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        name = image_name(item)
        if name is not None and name in self._blocked:
            raise Blocked(self._blocked[name])
        try:
            return (yield)
        except Reused as reused:
            item.stash[_REUSED] = str(reused)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Does not call what need not be: its fixtures are not there."""
        return True if _REUSED in pyfuncitem.stash else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        made = yield
        name = image_name(item)
        error = call.excinfo.value if call.excinfo is not None else None
        if isinstance(error, Blocked):
            made.outcome = "skipped"
            made.longrepr = (str(item.path), 0, str(error))
            made.blocked = str(error)  # type: ignore[attr-defined]
        elif isinstance(error, GoldspawnError):
            made.longrepr = str(error)
        _mask(made)
        if name is None:
            return made
        if made.when == "call" and _REUSED in item.stash:
            made.reused = item.stash[_REUSED]  # type: ignore[attr-defined]
        if made.failed and made.when == "setup" and is_stage(item):
            made.when = "call"  # a stage is its fixture: what fails there is the check, not its surroundings
        if made.failed:
            self._block(item, name, error)
        # JUnit XML takes the properties of the last report, that of the teardown.
        made.user_properties = [*made.user_properties, ("goldspawn_image", name)]
        build = settings(self._config).builds.get(name)
        ended = made.when != "setup" or not made.passed
        if ended and build is not None and is_stage(item):
            if item.name in build.notes:
                made.user_properties.append(("goldspawn_note", build.notes[item.name]))
            if item.name == "snapshot":
                if "exported" in build.notes:
                    made.user_properties.append(("goldspawn_exported", build.notes["exported"]))
                made.user_properties += [(f"goldspawn_{key}", value) for key, value in build.facts.items()]
        return made

    def _block(self, item: pytest.Item, name: str, error: BaseException | None) -> None:
        # The stage that failed may be another than the check: one that was not selected runs for a later one.
        stage = (
            error.stage if isinstance(error, GoldspawnError) and error.stage else item.name if is_stage(item) else ""
        )
        if stage in FOUNDATIONS or (isinstance(error, GoldspawnError) and error.blocks):
            self._blocked[name] = f"blocked by {stage}, which failed"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        before = self._outcomes.get(report.nodeid, Outcome(report.nodeid, "started", 0.0))
        result = before.result if report.passed else report.outcome
        if report.passed and report.when == "call":
            result = "passed"
        self._outcomes[report.nodeid] = Outcome(report.nodeid, result, before.seconds + report.duration)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.CollectReport | pytest.TestReport) -> object:
        if isinstance(report, pytest.TestReport) and getattr(report, "blocked", None):
            return "blocked", "b", ("BLOCKED", {"yellow": True})
        if isinstance(report, pytest.TestReport) and getattr(report, "reused", None):
            return "reused", "r", ("REUSED", {"green": True})
        return None


def _within(image: str, nodeids: Iterable[str]) -> set[str]:
    """Node ids without the way to the image's folder, which another session may have taken from elsewhere."""
    return {
        f"{file.rpartition(f'{image}/')[2]}::{check}" for file, _, check in (one.partition("::") for one in nodeids)
    }


def _mask(made: pytest.TestReport) -> None:
    """Takes secrets out of what a report tells of a failure, and of what a test printed."""
    if made.failed and (told := masked(made.longreprtext)) != made.longreprtext:
        made.longrepr = told
    made.sections = [(title, masked(text)) for title, text in made.sections]


def verdicts(config: pytest.Config) -> Verdicts:
    """The session's verdicts."""
    plugin = config.pluginmanager.get_plugin("goldspawn-verdicts")
    assert isinstance(plugin, Verdicts)
    return plugin
