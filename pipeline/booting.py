"""Further machines of a candidate: for tests and checks after which nobody would want the machine any more."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

from pipeline import throwaway
from pipeline.build import Build
from pipeline.machine import Machine
from pipeline.machine.settings import Settings
from pipeline.network import Segment
from pipeline.workspace import Workspace

_numbers = itertools.count(2)


@contextlib.contextmanager
def another(build: Build, workspace: Workspace, settings: Settings, segment: Segment | None) -> Iterator[Machine]:
    """A machine of a clone of its own, not started yet; it is ended and gone after the block."""
    name = throwaway.machine_name(build.image.name, next(_numbers))
    with throwaway.clone(workspace.candidate, name, build.place, build.zfs) as directory:
        machine = Machine(name, directory, build.image.boot, build.log, build.place.slowness, settings, segment)
        try:
            yield machine
        finally:
            machine.stop()
