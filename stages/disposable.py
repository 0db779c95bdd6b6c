"""A machine of one test's own, for tests after which nobody would want the machine any more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testinfra.host import Host

from pipeline.booting import another
from pipeline.build import Build
from pipeline.machine import Machine, host, verified
from pipeline.workspace import Workspace


@pytest.fixture
def disposable_machine(build: Build, profile: Workspace, machinectl: Machine) -> Iterator[Host]:
    """Another machine of the same candidate, booted and healthy, as a pytest-testinfra `Host`; gone after the test.

    It is a clone of its own on the same network segment, where it and `machine` reach each other by their addresses.
    """
    segment = machinectl.segment
    with another(build, profile, verified(build.image, segment), segment) as made:
        made.start()
        made.judge()
        yield host(made.name)
