"""Stage 1, dataset: locks the image's datasets, clears what a dead build left, and finds where this build starts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.build import Build
from pipeline.workspace import Workspace, open_workspace


@pytest.fixture(scope="session")
def dataset(build: Build) -> Iterator[Workspace]:
    """The image's workspace: a working dataset to come, or the newest stage that is still valid."""
    with build.stage("dataset"):
        workspace = open_workspace(
            build.image, build.place, build.keys, build.zfs, max_age=build.wishes.max_age, wait=build.log.line
        )
        build.notes["dataset"] = str(workspace.start)
    yield workspace
    workspace.close()
