"""What the ready-made checks look at."""

from __future__ import annotations

import pytest

from pipeline import throwaway
from pipeline.booting import another
from pipeline.build import Build
from pipeline.checks import Subject
from pipeline.machine import Machine
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def subject(machinectl: Machine, profile: Workspace, build: Build) -> Subject:
    """The running machine, with what `[checks]` of its image.toml says."""
    size = int(build.zfs.get(profile.candidate, "logicalreferenced"))
    name = throwaway.machine_name(build.image.name)
    return Subject(
        machinectl,
        build.image,
        size,
        lambda settings: another(build, profile.candidate, settings, machinectl.segment),
        lambda: throwaway.clone(profile.candidate, f"{name}.looked", build.place, build.zfs),
        build.secrets.logins,
    )
