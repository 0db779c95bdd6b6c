"""The machine, after somebody has looked at it: where `--shell` or `--keep` says so."""

from __future__ import annotations

import pytest

from pipeline.attend import attend
from pipeline.build import Build
from pipeline.machine import Machine
from pipeline.plugin.verdict import verdicts


@pytest.fixture
def attended(build: Build, machinectl: Machine, pytestconfig: pytest.Config) -> Machine:
    """The running machine with all checks made but the last; its owner may have been in it."""
    failed = verdicts(pytestconfig).failed(build.image.name)
    if build.wishes.shell or (build.wishes.keep and failed):
        why = f"{failed[0]} failed" if failed else "all checks passed"
        attend(machinectl.name, why, shell=build.wishes.shell)
    return machinectl
