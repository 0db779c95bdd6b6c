"""Stage 4, profile: packages, accounts, files, settings and units make the tree this machine; then it is sealed."""

from __future__ import annotations

import pytest

from pipeline.build import Build
from pipeline.profile import apply, seal
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def profile(build: Build, cycles: Workspace) -> Workspace:
    """The workspace with a sealed candidate: the snapshot that ships if it passes."""
    with build.stage("profile"):
        if cycles.candidate:
            build.notes["profile"] = f"reused {cycles.candidate}"
            return cycles
        with cycles.fill_tree() as tree:
            apply(build.image, tree, log=build.log, slowness=build.place.slowness)
            seal(tree, log=build.log)
        build.notes["profile"] = f"{len(build.image.profile.packages)} packages named; sealed"
    return cycles
