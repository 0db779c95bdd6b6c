"""Stage 6, machinectl: the machine as its operator sees it from outside."""

from __future__ import annotations

import pytest

from pipeline.machine import Machine


@pytest.fixture(scope="session")
def machinectl(boot: Machine) -> Machine:
    """The booted machine, to be verified with machinectl."""
    return boot
