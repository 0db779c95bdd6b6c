"""What the operator of gentoo1 wants to know."""

from __future__ import annotations

import pytest
from testinfra.host import Host


def test_it_is_a_gentoo(machine: Host) -> None:
    assert machine.file("/etc/gentoo-release").exists
    assert machine.system_info.distribution == "gentoo"


def test_hello_was_built_as_the_host_profile_asks(machine: Host) -> None:
    said = machine.run("hello")
    assert "HELLO" in said.stdout, "its flag `loud` is set in package.use of the profile"
    assert "built for debugging" not in said.stderr, "its flag `debug` is masked in use.mask"


def test_packages_are_known(machine: Host) -> None:
    hello = machine.package("hello")
    assert hello.is_installed
    assert hello.version
    assert not machine.package("no-such-thing").is_installed


def test_the_pair_was_mended_after_its_cycle_was_opened(machine: Host) -> None:
    assert "glyph known: yes" in machine.run("hello").stdout


def test_hello_listens(machine: Host) -> None:
    assert machine.service("hello.socket").is_running


@pytest.mark.parametrize(("library", "needs"), [("glyph", "shaper"), ("shaper", "glyph")])
def test_each_of_the_pair_is_linked_to_the_other(machine: Host, library: str, needs: str) -> None:
    linked = machine.run(f"ldd /usr/lib/lib{library}.so")
    assert linked.rc == 0, linked.stderr
    assert f"lib{needs}.so" in linked.stdout
    assert "not found" not in linked.stdout
