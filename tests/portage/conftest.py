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


def traces() -> list[str]:
    """All that is at TRACES, and in them.

    The empty folder var/lib/portage itself is none: Portage 3.0.83 makes it in its `/` whenever it starts
    (`config._init_dirs`), and for that of PyPI, told that its prefix is empty, this is the machine's.
    """
    found = [path for place in TRACES for path in (Path(place), *Path(place).rglob("*"))]
    return sorted(str(path) for path in found if path.exists() and path != Path("/var/lib/portage"))
