"""Stage 4, profile: packages, accounts, files, settings and units make the tree this machine; then it is sealed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from pipeline.build import Build
from pipeline.plugin.options import exchange
from pipeline.profile import Pool, apply, seal
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def profile(build: Build, cycles: Workspace) -> Workspace:
    """The workspace with a sealed candidate: the snapshot that ships if it passes."""
    with build.stage("profile"):
        if cycles.candidate:
            build.notes["profile"] = f"reused {cycles.candidate}"
            return cycles
        with cycles.fill_tree() as tree:
            install = None if build.image.bootstrap.whole else partial(_merge, build)
            pool = Pool(exchange() / "packages")
            apply(build.image, tree, pool=pool, log=build.log, slowness=build.place.slowness, install=install)
            seal(tree, log=build.log)
        build.notes["profile"] = f"{len(build.image.profile.packages)} packages named; sealed"
    return cycles


def _merge(build: Build, tree: Path, atoms: Sequence[str]) -> None:
    from pipeline import gentoo

    with gentoo.workshop(build, exchange() / "tars") as workshop:
        gentoo.merge_packages(workshop, tree, atoms)
