"""Tests that were selected and cannot be run: the first is reported as failed, the others as blocked by that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.plugin.collect import image_name


def report_lost(config: pytest.Config, items: Sequence[pytest.Item], why: str, after: str) -> None:
    """Reports `items`: `why` is the first one's failure, `after` (a few words) the reason that blocks the others."""
    for index, item in enumerate(items):
        first = index == 0
        blocked: Any = (str(item.path), 0, f"blocked: {after}")
        made = pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords=dict.fromkeys(item.keywords, 1),
            outcome="failed" if first else "skipped",
            longrepr=why if first else blocked,
            when="call" if first else "setup",
        )
        if not first:
            made.blocked = f"blocked: {after}"  # type: ignore[attr-defined]
        if (name := image_name(item)) is not None:
            made.user_properties.append(("goldspawn_image", name))
        hook = config.hook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        hook.pytest_runtest_logreport(report=made)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
