"""What the user reads: the header (where, which images), live progress, at the end what became of each image, and a
picture of that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline import attend, channel
from pipeline.errors import PlaceError
from pipeline.plugin import timeline
from pipeline.plugin.collect import image_name, needs_place
from pipeline.plugin.display import Display
from pipeline.plugin.options import settings
from pipeline.plugin.run_page import RunPage
from pipeline.progress import Progress, show_with


class Summary:
    """The plugin of the process that owns the terminal."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._reports: dict[str, list[pytest.TestReport]] = {}
        self._clocks = timeline.Clocks()
        self._display: Display | None = None
        self._listener: channel.Listener | None = None
        self._page = RunPage(config)
        config.pluginmanager.register(self._page, "goldspawn-run-page")

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        if self._config.option.collectonly:
            return
        self._display = Display(self._config)
        self._display.start()
        show_with(self._display.update)
        if self._config.getoption("numprocesses", None):  # workers of pytest-xdist tell us over a channel
            self._listener = channel.Listener(self._heard)
            os.environ[channel.ENVIRONMENT] = str(self._listener.path)

    def pytest_unconfigure(self) -> None:
        if self._display is not None:
            self._display.stop()
        if self._listener is not None:
            os.environ.pop(channel.ENVIRONMENT, None)
            self._listener.close()

    def _heard(self, message: channel.Message) -> channel.Message | None:
        kind = message.pop("kind")
        if kind == attend.KIND:
            return attend.serve(message)
        if kind == "progress" and self._display is not None:
            self._display.update(Progress(**message))
        return None

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> list[str]:
        images = list(dict.fromkeys(name for item in items if (name := image_name(item)) is not None))
        if not any(needs_place(item) for item in items):
            return []
        choice = settings(self._config).choice
        lines = [f"goldspawn: where: {choice.where} ({choice.why})"]
        if images:
            lines.append(f"goldspawn: images: {', '.join(images)}")
        return lines

    # Whatever writes to the terminal next, progress makes room for it first.

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        self._hide()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish(self) -> None:
        self._hide()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Iterator[None]:
        self._hide()
        for key, image in report.user_properties:
            if key == "goldspawn_image" and report.when != "teardown":
                self._reports.setdefault(str(image), []).append(report)
                self._clocks.heard(report)
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        self._hide()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        if self._display is not None:
            self._display.stop()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        drawn = self._draw()
        if terminalreporter.verbosity < -1:
            return
        for image, reports in self._reports.items():
            terminalreporter.section(image)
            for line in _table(reports):
                terminalreporter.line(line)
        if drawn:
            terminalreporter.line("")
            for line in drawn.splitlines():
                terminalreporter.line(line)

    def _draw(self) -> str:
        """Draws timeline and reports, and says where they are, or why they are not; "" for a session without images."""
        chosen = settings(self._config)
        artifacts = chosen.wishes.artifacts
        try:
            drawn = timeline.write(artifacts, self._reports, self._clocks)
            page = self._page.write(artifacts, self._reports, drawn) if chosen.report else None
        except PlaceError as error:
            return f"no timeline or report: {error}"
        lines = [f"timeline: {drawn}"] if drawn is not None else []
        lines += [f"report: {page}"] if page is not None else []
        return "\n".join(lines)

    def _hide(self) -> None:
        if self._display is not None:
            self._display.hide()


def _table(reports: list[pytest.TestReport]) -> Iterator[str]:
    """One line for each stage; the image's own tests are counted in one."""
    rows: dict[str, list[pytest.TestReport]] = {}
    for report in reports:
        file, _, name = report.nodeid.partition("::")
        rows.setdefault(name if file.endswith("image.toml") else "acceptance", []).append(report)
    blocked = [name for name, those in rows.items() if all(getattr(each, "blocked", None) for each in those)]
    reused = [name for name, those in rows.items() if any(getattr(each, "reused", None) for each in those)]
    for name, those in rows.items():
        if name in blocked or name in reused:
            continue
        seconds = sum(report.duration for report in those)
        notes = [note for report in those for key, note in report.user_properties if key == "goldspawn_note"]
        final = {report.nodeid: report for report in those if report.when == "call" or not report.passed}
        wrong = [report for report in final.values() if report.outcome != "passed"]
        said = notes[0] if notes else f"{len(final)} tests" if name == "acceptance" else ""
        if wrong:
            said = f"{wrong[0].outcome}" + (f" ({len(wrong)} of {len(final)})" if name == "acceptance" else "")
            if wrong[0].skipped and isinstance(wrong[0].longrepr, tuple):
                said += f": {wrong[0].longrepr[2]}"
        yield f"  {name:20} {seconds:7.1f} s   {said}".rstrip()
    if reused:
        said = next(text for each in rows[reused[0]] if (text := getattr(each, "reused", None)))
        yield f"  {', '.join(reused)}: {said}, unchanged since (--reverify boots it again)"
    for report in reports:
        for key, value in report.user_properties:
            if key == "goldspawn_exported":
                yield from ("", *str(value).splitlines())
    if blocked:
        yield f"  {', '.join(blocked)}: not run, {getattr(rows[blocked[0]][0], 'blocked', '')}"
