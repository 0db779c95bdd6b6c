"""Stage 4, profile: packages, accounts, files, settings and units make the tree this machine; then it is sealed."""

from __future__ import annotations

import pytest

from pipeline import making
from pipeline.build import Build
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def profile(build: Build, cycles: Workspace) -> Workspace:
    """The workspace with a sealed candidate: the snapshot that ships if it passes."""
    with build.stage("profile"):
        making.profile(build, cycles)
    return cycles
