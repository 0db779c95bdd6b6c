"""Stage 1, dataset: locks the image's datasets, clears what a dead build left, and finds where this build starts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline import making
from pipeline.bases import judging
from pipeline.build import Build
from pipeline.plugin.verdict import verdicts
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def dataset(build: Build, pytestconfig: pytest.Config) -> Iterator[Workspace]:
    """The image's workspace: a working dataset to come, or the newest stage that is still valid.

    Before others are let at it, they can know which of its checks failed.
    """
    with build.stage("dataset"):
        workspace = making.open_for(build)
    try:
        with judging(build.image, build.place, lambda: verdicts(pytestconfig).failed(build.image.name)):
            yield workspace
    finally:
        workspace.close()
