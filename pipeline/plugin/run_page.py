"""The page of the run, `artifacts/reports/index.html`: what a session was to do, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import atomic
from pipeline.plugin import pages
from pipeline.plugin.collect import image_folder, image_name
from pipeline.plugin.loss import NAMES, Lost
from pipeline.plugin.options import settings
from pipeline.report import Part, Run, render, shortened


class RunPage:
    """Follows a session, to tell of it also what no report of a check tells."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._began = time.time()
        self._clock = time.monotonic()
        self._planned: dict[str, None] = {}
        self._wrong: dict[str, str] = {}
        self._stopped = ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._planned |= dict.fromkeys(name for item in session.items if (name := image_name(item)) is not None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """With pytest-xdist its workers collect."""
        found = (Lost.known_by(self._config, nodeid).image for nodeid in ids)
        self._planned |= dict.fromkeys(name for name in found if name)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Mistakes in an image's files, for which there is no check."""
        if not report.failed:
            return
        folder = image_folder(self._config.rootpath / report.nodeid.partition("::")[0])
        if folder is not None:
            self._wrong.setdefault(folder.name, report.longreprtext)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[Any]) -> None:
        self._stopped = str(excinfo.value) or "it was interrupted"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """After `-x` or `--maxfail`."""
        self._stopped = self._stopped or str(session.shouldfail or session.shouldstop or "")

    def write(
        self, artifacts: Path, reports: Mapping[str, Sequence[pytest.TestReport]], picture: Path | None
    ) -> Path | None:
        """Writes the pages of the images, and that of the run; returns where that is, None where there are no images.

        Raises `PlaceError` if one cannot be written.
        """
        if self._config.option.collectonly or not (reports or self._planned or self._wrong):
            return None
        parts = pages.write(artifacts, reports)
        wrong = {image: shortened(pages.brief(text)) for image, text in self._wrong.items() if image not in reports}
        parts += [Part(image, "failed", why) for image, why in wrong.items()]
        known = {part.image for part in parts}
        parts += [Part(image, "unfinished", "not begun") for image in self._planned if image not in known]
        folder = artifacts / pages.FOLDER
        run = Run(
            pages.moment(self._began),
            time.monotonic() - self._clock,
            self._where(),
            parts,
            self._stopped,
            picture.read_text(encoding="utf-8") if picture is not None else "",
            _earlier(folder, {part.file for part in parts}),
        )
        atomic.write(folder / pages.INDEX, render(run))
        return folder / pages.INDEX

    def _where(self) -> str:
        if hosts := self._config.stash.get(NAMES, {}):
            return f"on {', '.join(dict.fromkeys(hosts.values()))}"
        choice = settings(self._config).choice
        return f"{'in the appliance' if choice.where == 'appliance' else 'native'} ({choice.why})"


def _earlier(folder: Path, now: set[str]) -> dict[str, tuple[str, str]]:
    """The pages of images that were not part of this run."""
    files = sorted(path for path in folder.glob("[!.]*.html") if path.name not in now | {pages.INDEX})
    return {path.stem.rstrip("_"): (path.name, pages.moment(path.stat().st_mtime)) for path in files}
