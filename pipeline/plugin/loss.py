"""Tests that were selected and cannot be run: the first is reported as failed, the others as blocked by that."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.plugin.collect import image_folder, image_name

NAMES = pytest.StashKey[dict[str, str]]()
"""What workers of pytest-xdist are called in messages, by their ids, where they have names: the hosts they are on."""


@dataclass(frozen=True)
class Lost:
    """A test that cannot be run, as much as a report needs of it; `image` is "" for one of no image."""

    nodeid: str
    location: tuple[str, int | None, str]
    keywords: tuple[str, ...]
    image: str

    @classmethod
    def item(cls, item: pytest.Item) -> Lost:
        """From a collected item."""
        return cls(item.nodeid, item.location, tuple(item.keywords), image_name(item) or "")

    @classmethod
    def known_by(cls, config: pytest.Config, nodeid: str) -> Lost:
        """From a node id, where others collect."""
        file, _, name = nodeid.partition("::")
        folder = image_folder(config.rootpath / file)
        return cls(nodeid, (file, None, name), (), folder.name if folder is not None else "")


def report_lost(config: pytest.Config, tests: Sequence[pytest.Item], why: str, after: str) -> None:
    """Reports `tests`: `why` is the first one's failure, `after` (a few words) the reason that blocks the others."""
    report(config, [Lost.item(item) for item in tests], why, f"blocked: {after}")


def report(config: pytest.Config, tests: Iterable[Lost], why: str, blocked: str, worker: str = "") -> None:
    """As `report_lost`; `worker` is the worker of pytest-xdist that should have run them."""
    now = time.time()
    for index, test in enumerate(tests):
        first = index == 0
        longrepr: Any = why if first else (test.location[0], 0, blocked)
        made = pytest.TestReport(
            nodeid=test.nodeid,
            location=test.location,
            keywords=dict.fromkeys(test.keywords, 1),
            outcome="failed" if first else "skipped",
            longrepr=longrepr,
            when="call" if first else "setup",
            start=now,
            stop=now,
        )
        if not first:
            made.blocked = blocked  # type: ignore[attr-defined]
        if worker:
            made.worker_id = worker  # type: ignore[attr-defined]
        if test.image:
            made.user_properties.append(("goldspawn_image", test.image))
        hook = config.hook
        hook.pytest_runtest_logstart(nodeid=test.nodeid, location=test.location)
        hook.pytest_runtest_logreport(report=made)
        hook.pytest_runtest_logfinish(nodeid=test.nodeid, location=test.location)
