"""What acceptance tests get of the segment: another host on it, and the machine's own place."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from pipeline import network as segments
from pipeline.build import Build
from pipeline.machine import Machine, Network


@pytest.fixture(scope="session")
def network(machinectl: Machine, build: Build) -> Network:
    """The machine's place on its network segment: `network.address(6)`, `with network.cut(): …`."""
    assert machinectl.segment is not None
    return Network(machinectl.name, machinectl.segment, build.log, build.place.slowness)


@pytest.fixture(scope="session")
def peer(network: Network) -> Host:
    """Another host on the segment, as a pytest-testinfra `Host`: `peer.check_output("curl http://web1/")`."""
    return segments.peer(network.segment)
