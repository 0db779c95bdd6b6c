"""What the operator of base1 wants to know of the running machine."""

from __future__ import annotations

from testinfra.host import Host


def test_ops_can_be_logged_in_as(machine: Host) -> None:
    entry = machine.check_output("getent passwd ops").split(":")
    assert entry[2] == "1500"
    assert entry[5:] == ["/home/ops", "/bin/bash"]
    assert {"operators", "adm"} <= set(machine.check_output("id --name --groups ops").split())


def test_ops_has_no_password(machine: Host) -> None:
    assert machine.check_output("getent shadow ops").split(":")[1].startswith("!")


def test_whereami_names_the_machine(machine: Host) -> None:
    assert machine.check_output("whereami").startswith("base1 ")


def test_visitors_are_told_that_changes_are_lost(machine: Host) -> None:
    assert "golden image" in machine.check_output("cat /etc/motd")
