"""A machine of one test's own, for tests after which nobody would want the machine any more."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from testinfra.host import Host

from pipeline import throwaway
from pipeline.build import Build
from pipeline.machine import Machine, host, verified
from pipeline.workspace import Workspace

_numbers = itertools.count(2)


@pytest.fixture
def disposable_machine(build: Build, profile: Workspace, machinectl: Machine) -> Iterator[Host]:
    """Another machine of the same candidate, booted and healthy, as a pytest-testinfra `Host`; gone after the test.

    It is a clone of its own on the same network segment, where it and `machine` reach each other by their addresses.
    """
    name = throwaway.machine_name(build.image.name, next(_numbers))
    slowness, own = build.place.slowness, machinectl.segment
    with throwaway.clone(profile.candidate, name, build.place, build.zfs) as directory:
        made = Machine(name, directory, build.image.boot, build.log, slowness, verified(build.image, own), own)
        try:
            made.start()
            made.judge()
            yield host(name)
        finally:
            made.stop()
