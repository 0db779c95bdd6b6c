"""The inner end of a session that moved into the appliance: runs what was selected outside, and tells how it goes."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline import channel
from pipeline.errors import GoldspawnError
from pipeline.plugin.collect import absolute, image_folder

SELECTION = "GOLDSPAWN_SELECTION"
"""The file that lists the tests to run, as a JSON object: their ids, and the files they are in."""

_HEARTBEAT = 5.0
"""Seconds between two signs of life."""

_OUTSIDE = {"keyword": "", "markexpr": "", "deselect": None, "xmlpath": None, "lf": False, "failedfirst": False,
            "newfirst": False, "stepwise": False, "stepwise_skip": False, "collectonly": False, "goldspawn_image": None,
            "durations": None}  # fmt: skip
"""Options that have had their effect outside, and the values with which they have none."""


class Inside:
    """Runs the same command line as outside, restricted to what was selected there, and reports to the outside."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._worker = hasattr(config, "workerinput")
        self._selected: dict[str, str] = json.loads(Path(os.environ[SELECTION]).read_text())
        self._files = set(self._selected.values())
        self._images = {folder for file in self._files if (folder := image_folder(Path(file))) is not None}
        self._folders = {folder for file in self._files for folder in Path(file).parents}
        for option, value in _OUTSIDE.items():
            if hasattr(config.option, option):
                setattr(config.option, option, value)
        if not self._worker:
            threading.Thread(target=_beat, daemon=True).start()
            threading.Thread(target=_obey, daemon=True).start()

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        # A file that was named by hand is collected whatever `pytest_ignore_collect` says of it.
        config.args = [arg for arg in config.args if not self._has_nothing(absolute(config, arg))]
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            config.pluginmanager.unregister(terminal)

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leaves alone what has nothing to run here; an image is taken whole, so that its verdict is."""
        return True if self._has_nothing(collection_path) else None

    def _has_nothing(self, path: Path) -> bool:
        if str(path) in self._files or path in self._folders:
            return False
        return image_folder(path) not in self._images

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        dropped = [item for item in items if item.nodeid not in self._selected]
        if dropped:
            config.hook.pytest_deselected(items=dropped)
            items[:] = [item for item in items if item.nodeid in self._selected]

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._tell({"kind": "logstart", "nodeid": nodeid, "location": location})

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._tell({"kind": "logfinish", "nodeid": nodeid, "location": location})

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not self._worker:
            data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
            data.pop("node", None)  # pytest-xdist's own object for the worker
            self._tell({"kind": "report", "report": data})

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._tell({"kind": "broken", "text": f"{report.nodeid}: {report.longreprtext}"})

    def pytest_internalerror(self, excrepr: Any) -> None:
        self._tell({"kind": "broken", "text": str(excrepr)})

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        self._tell({"kind": "done"})

    def _tell(self, message: channel.Message) -> None:
        if not self._worker:
            channel.tell(message)


def _beat() -> None:
    stopped = threading.Event()
    while not stopped.wait(_HEARTBEAT):
        channel.tell({"kind": "alive"})


def _obey() -> None:
    """Waits for the one order there is: Ctrl-C was pressed outside."""
    try:
        order = channel.ask({"kind": "orders"})
    except GoldspawnError:
        return
    if order.get("order") == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
