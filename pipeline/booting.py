"""Machines of a build: the one that is verified, and further ones for what nobody would want that for afterwards."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

from pipeline import throwaway
from pipeline.build import Build
from pipeline.machine import Machine
from pipeline.machine.settings import Settings
from pipeline.network import Segment

_numbers = itertools.count(2)


def machine_of(build: Build, name: str, directory: Path, settings: Settings, segment: Segment | None) -> Machine:
    """A machine of the build's image made of the tree at `directory`, not started yet, with what it is given."""
    credentials = build.secrets.files("credential")
    return Machine(
        name, directory, build.image.boot, build.log, build.place.slowness, settings, segment, credentials=credentials
    )


@contextlib.contextmanager
def another(build: Build, snapshot: str, settings: Settings, segment: Segment | None) -> Iterator[Machine]:
    """A machine of a clone of its own of a snapshot, not started yet; it is ended and gone after the block."""
    name = throwaway.machine_name(build.image.name, next(_numbers))
    with throwaway.bootable(snapshot, name, build.image.boot, build.place, build.zfs) as directory:
        machine = machine_of(build, name, directory, settings, segment)
        try:
            yield machine
        finally:
            machine.stop()
