"""Stage 3, cycles: build-dependency cycles are found and broken. Distributions of binary packages have none."""

from __future__ import annotations

import pytest

from pipeline.build import Build
from pipeline.plugin.options import exchange
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def cycles(build: Build, bootstrap: Workspace) -> Workspace:
    """The workspace with a tree to clone in which all is merged that the bootstrap itself does not bring."""
    with build.stage("cycles"):
        if build.image.bootstrap.whole:
            build.notes["cycles"] = "none: packages are binary"
        elif bootstrap.candidate:
            build.notes["cycles"] = "reused"
        else:
            _merge(build, bootstrap)
    return bootstrap


def _merge(build: Build, workspace: Workspace) -> None:
    from pipeline import gentoo

    tars = exchange() / "tars"
    with workspace.merging(build.log.line):
        if workspace.merged:
            build.notes["cycles"] = f"reused {workspace.merged}"
            return
        if build.wishes.plan:
            with workspace.looking() as tree:
                pytest.skip(f"planned only, as asked: {gentoo.plan(build, tree, tars)}")
        with workspace.fill_merged() as tree:
            outcome = gentoo.merge_sets(build, tree, tars)
        build.zfs.mark(workspace.merged, {gentoo.MARK: gentoo.as_mark(outcome)})
        build.notes["cycles"] = str(outcome)
