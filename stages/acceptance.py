"""Stage 7, acceptance: the image's own tests against the running machine."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from pipeline.machine import Machine, host


@pytest.fixture(scope="session")
def machine(machinectl: Machine) -> Host:
    """The running machine as a pytest-testinfra `Host`: `machine.service("nginx").is_running`."""
    return host(machinectl.name)
