"""Stage 6, machinectl: the machine as its operator sees it from outside."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.bisect import Check, bisected
from pipeline.build import Build
from pipeline.machine import Machine
from pipeline.workspace import Workspace

Verify = Callable[[Check], None]
"""Makes a check of the running machine."""


@pytest.fixture(scope="session")
def machinectl(boot: Machine) -> Machine:
    """The booted machine, to be verified with machinectl."""
    return boot


@pytest.fixture
def verify(build: Build, profile: Workspace, machinectl: Machine) -> Verify:
    """Makes a check of the running machine; where that fails, `--bisect` finds the stage since which it does."""

    def made(check: Check) -> None:
        with bisected(build, profile, machinectl.segment, check):
            check(machinectl)

    return made
