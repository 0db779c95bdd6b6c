"""Stage 5, boot: a clone of the candidate is booted. What boots is never what ships."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from pipeline.build import Build
from pipeline.machine import Machine
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def boot(build: Build, profile: Workspace) -> Iterator[Machine]:
    """A machine made of a clone of the candidate, booted, ready and healthy; gone afterwards."""
    with profile.booting_clone() as (name, directory):
        machine = Machine(name, directory, build.image.boot, build.log, build.place.slowness)
        try:
            with build.stage("boot"):
                started = time.monotonic()
                machine.start()
                machine.judge()
                build.notes["boot"] = f"ready and healthy after {time.monotonic() - started:.1f} s"
            yield machine
        finally:
            machine.stop()
