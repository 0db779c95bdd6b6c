"""Stage 2, bootstrap: a root file system as the distribution leaves it, once for all images that want the same."""

from __future__ import annotations

import pytest

from pipeline.build import Build
from pipeline.plugin.options import exchange
from pipeline.tarball import fetch, unpack
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def bootstrap(build: Build, dataset: Workspace) -> Workspace:
    """The workspace with a bootstrap to clone: the one that is there, or one made now by the image's method."""
    with build.stage("bootstrap"):
        if dataset.candidate or dataset.merged:
            build.notes["bootstrap"] = "reused"
            return dataset
        with dataset.bootstrapping(build.log.line):
            if dataset.bootstrap:
                build.notes["bootstrap"] = f"reused {dataset.bootstrap}"
                return dataset
            slowness = build.place.slowness
            tar = fetch(
                build.image, folder=exchange() / "tars", max_age=build.wishes.max_age, log=build.log, slowness=slowness
            )
            # Compression never makes a root file system smaller than a third.
            build.zfs.check_room(build.place.layout.bootstraps, tar.stat().st_size // 3)
            with dataset.fill_bootstrap() as tree:
                unpack(tar, tree, log=build.log, timeout=build.place.limit(300))
            build.notes["bootstrap"] = build.image.bootstrap.summary
    return dataset
