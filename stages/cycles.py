"""Stage 3, cycles: build-dependency cycles are found and broken. Distributions of binary packages have none."""

from __future__ import annotations

import json

import pytest

from pipeline.build import Build
from pipeline.plugin.options import exchange
from pipeline.tarball import MERGED, ask, unpack
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
            with workspace.looking() as tree, gentoo.workshop(build, tars) as workshop:
                pytest.skip(f"planned only, as asked: {gentoo.plan(workshop, tree)}")
        tar = ask(build.image, MERGED, max_age=build.wishes.max_age, log=build.log)
        if tar is not None:
            with workspace.fill_merged(anew=True) as tree:
                unpack(tar, tree, log=build.log, timeout=build.place.limit(600))
            told = tar.with_suffix(".json").read_text()
        else:
            with workspace.fill_merged() as tree, gentoo.workshop(build, tars) as workshop:
                told = gentoo.as_mark(gentoo.merge_sets(workshop, tree))
        build.zfs.mark(workspace.merged, {gentoo.MARK: told})
        build.notes["cycles"] = json.loads(told)["summary"]
