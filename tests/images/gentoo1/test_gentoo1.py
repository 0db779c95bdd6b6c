"""What the operator of gentoo1 wants to know."""

from __future__ import annotations

import pytest
from testinfra.host import Host


def test_it_is_a_gentoo(machine: Host) -> None:
    assert machine.file("/etc/gentoo-release").exists
    assert machine.system_info.distribution == "gentoo"


def test_hello_was_built_as_the_host_profile_asks(machine: Host) -> None:
    assert machine.run("hello").rc == 0


@pytest.mark.parametrize(("library", "needs"), [("glyph", "shaper"), ("shaper", "glyph")])
def test_each_of_the_pair_is_linked_to_the_other(machine: Host, library: str, needs: str) -> None:
    linked = machine.run(f"ldd /usr/lib/lib{library}.so")
    assert linked.rc == 0, linked.stderr
    assert f"lib{needs}.so" in linked.stdout
    assert "not found" not in linked.stdout
