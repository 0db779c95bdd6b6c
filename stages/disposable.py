"""A machine of one test's own, for tests after which nobody would want the machine any more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testinfra.host import Host

from pipeline.booting import another
from pipeline.build import Build
from pipeline.machine import Machine, Network, host, verified
from pipeline.workspace import Workspace


@pytest.fixture
def disposable(build: Build, profile: Workspace, machinectl: Machine) -> Iterator[Machine]:
    """What the two fixtures below are of: one machine a test."""
    segment = machinectl.segment
    with another(build, profile.candidate, verified(build.image, segment), segment) as made:
        made.start()
        made.judge()
        yield made


@pytest.fixture
def disposable_machine(disposable: Machine) -> Host:
    """Another machine of the same candidate, booted and healthy, as a pytest-testinfra `Host`; gone after the test.

    It is a clone of its own on the same network segment, where it and `machine` reach each other by their addresses.
    What it can write is limited (`boot.room`).
    """
    return host(disposable.name)


@pytest.fixture
def disposable_network(disposable: Machine, build: Build) -> Network:
    """The place of `disposable_machine` on the segment: `with disposable_network.cut(): …`."""
    assert disposable.segment is not None
    return Network(disposable.name, disposable.segment, build.log, build.place.slowness)
