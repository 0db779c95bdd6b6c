"""Stage 1, dataset: locks the image's datasets, clears what a dead build left, and finds where this build starts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline import making
from pipeline.build import Build
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def dataset(build: Build) -> Iterator[Workspace]:
    """The image's workspace: a working dataset to come, or the newest stage that is still valid."""
    with build.stage("dataset"):
        workspace = making.open_for(build)
    yield workspace
    workspace.close()
