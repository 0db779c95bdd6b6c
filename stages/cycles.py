"""Stage 3, cycles: build-dependency cycles are found and broken. Distributions of binary packages have none."""

from __future__ import annotations

import pytest

from pipeline.build import Build
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def cycles(build: Build, bootstrap: Workspace) -> Workspace:
    """The workspace as the bootstrap left it."""
    with build.stage("cycles"):
        build.notes["cycles"] = "none: packages are binary"
    return bootstrap
