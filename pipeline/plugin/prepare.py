"""What an image needs before its build begins, made by a hook in its own conftest.py: `pytest_goldspawn_prepare`.

It runs where the user typed the command, never in the appliance, and before anything is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.command import BuildLog
from pipeline.errors import GoldspawnError
from pipeline.plugin.collect import image_folder
from pipeline.plugin.loss import report_lost
from pipeline.progress import Progress, report
from pipeline.user_cache import exchange


class Hooks:
    """The hooks that goldspawn adds to pytest's."""

    @staticmethod
    @pytest.hookspec
    def pytest_goldspawn_prepare(folder: Path, log: BuildLog) -> None:
        """Makes what image.toml of the image in `folder` names and no repository holds, such as a tarball.

        Called in each session that runs a check of the image: what is there and up to date is left as it is. Lines
        written to `log` are shown as progress. Raises `GoldspawnError` for what can't be had.
        """


class Prepare:
    """Calls the hook for each selected image, once; one that fails costs its image only."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        lost: dict[str, list[pytest.Item]] = {}
        images = {} if session.config.option.collectonly else _images(session.items)
        for folder, items in images.items():
            if not items[0].ihook.pytest_goldspawn_prepare.get_hookimpls():
                continue
            try:
                _prepare(folder, items[0])
            except GoldspawnError as error:
                lost[str(error)] = items
                session.items = [item for item in session.items if item not in items]
        result = yield
        for why, items in lost.items():  # not before: pytest's loop takes earlier failures for those of collection
            report_lost(session.config, items, why, "it could not be prepared")
        return result


def _images(items: list[pytest.Item]) -> dict[Path, list[pytest.Item]]:
    found: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if (folder := image_folder(item.path)) is not None:
            found.setdefault(folder, []).append(item)
    return found


def _prepare(folder: Path, item: pytest.Item) -> None:
    name = folder.name
    report(Progress(name, "prepare", "begin"))
    exchange().mkdir(parents=True, exist_ok=True)
    try:
        with (
            FileLock(exchange() / f"prepare-{name}.lock"),
            BuildLog(
                exchange() / f"prepare-{name}.log", lambda line: report(Progress(name, "prepare", "line", line))
            ) as log,
        ):
            item.ihook.pytest_goldspawn_prepare(folder=folder, log=log)
    finally:
        report(Progress(name, "prepare", "end"))
