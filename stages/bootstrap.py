"""Stage 2, bootstrap: a root file system as the distribution leaves it, once for all images that want the same."""

from __future__ import annotations

import pytest

from pipeline import making
from pipeline.build import Build
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def bootstrap(build: Build, dataset: Workspace) -> Workspace:
    """The workspace with a bootstrap to clone: the one that is there, or one made now by the image's method.

    For an image that stands on another it is that one's candidate.
    """
    with build.stage("bootstrap"):
        try:
            making.bootstrap(build, dataset)
        except making.PlannedOnly as planned:
            pytest.skip(f"planned only, as asked: {planned}")
    return dataset
