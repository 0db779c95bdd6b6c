"""Stage 3, cycles: build-dependency cycles are found and broken. Distributions of binary packages have none."""

from __future__ import annotations

import pytest

from pipeline import making
from pipeline.build import Build
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def cycles(build: Build, bootstrap: Workspace) -> Workspace:
    """The workspace with a tree to clone in which all is merged that the bootstrap itself does not bring."""
    with build.stage("cycles"):
        try:
            making.cycles(build, bootstrap)
        except making.PlannedOnly as planned:
            pytest.skip(f"planned only, as asked: {planned}")
    return bootstrap
