"""What the tests of the cycle engine share: a small Gentoo each, with the real emerge of the development dependencies.

They run on the machine itself, as root, without ZFS; and none may change anything outside of its own folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.portage.world import World

TOOLS = {"gcc": "gcc", "readelf": "binutils", "scanelf": "pax-utils"}
TRACES = (
    "/var/db/pkg",
    "/var/lib/portage",
    "/etc/env.d",
    "/etc/profile.env",
    "/usr/include/shape.h",
    "/var/cache/binhost",
)
"""Where an emerge that merged into this machine's / would be seen."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A repository, a target and a builder of this test's own. Fails if anything was merged into this machine."""
    if os.geteuid() != 0:
        pytest.skip("emerge changes owners: only root can")
    if missing := [package for tool, package in TOOLS.items() if shutil.which(tool) is None]:
        pytest.fail(f"install {' '.join(missing)} (./setup does)")
    before = traces()
    yield World(tmp_path)
    assert traces() == before, "something was merged into the machine that runs the tests"


def traces() -> dict[str, list[str] | None]:
    """What is at each of TRACES."""
    places = {path: Path(path) for path in TRACES}
    return {
        path: sorted(str(found) for found in place.rglob("*")) if place.exists() else None
        for path, place in places.items()
    }
