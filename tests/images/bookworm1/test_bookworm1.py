"""pytest-testinfra's own test cases, run against a machine of systemd-nspawn: the back end does what others do."""

from __future__ import annotations

import importlib.util
import inspect
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from testinfra.host import Host

CASES = (
    "command_execution", "current_user", "empty_command_output", "environment_home", "file", "group", "held_package",
    "interface", "ip6tables", "iptables", "local_command", "mountpoint", "nonexistent_user", "package",
    "parse_socketspec", "socket", "ssh_service", "service_systemd_mask", "sudo_fail_from_root", "sudo_from_root",
    "sysctl", "systeminfo", "user_expiration_date", "user_get_all_users", "user_password_days", "user_user",
    "ansible_unavailable",
)  # fmt: skip
"""The cases that are run, by name without `test_`.

As in their own file, `ssh_service` comes before `service_systemd_mask`: a unit with an alias that is masked and
unmasked while it runs is at times taken for dead by systemd 252 afterwards, with its process still in its cgroup.
"""

DESTRUCTIVE = ("supervisor", "uninstalled_package_version")
"""Those after which nobody would want the machine: each has one of its own."""

GIVEN = {"docker_image": "debian_bookworm", "family": "inet", "supervisorctl_path": "supervisorctl",
         "supervisorctl_conf": None}  # fmt: skip
"""Their parameters."""

LEFT = {
    "addr": "asks hosts on the internet, and the segment leads nowhere",
    "ansible_module": "is of another back end",
    "ansible_get_variables_flat_wo_child_groups": "is of another back end",
    "ansible_get_variables_w_child_groups": "is of another back end",
    "ansible_module_become": "is of another back end",
    "ansible_module_options": "is of another back end",
    "addr_namespace": "is of another back end",
    "sudo_to_root": "logs in as another user than root, which this back end does not",
    "rpmdb_corrupted": "is of Rocky Linux",
    "non_default_package_tool": "is of Rocky Linux",
    "salt": "needs Salt in the machine, from the internet",
    "puppet_resource": "needs Puppet in the machine",
    "facter": "needs Puppet in the machine, and Docker around it",
    "pip": "needs packages of Python's in the machine, from the internet",
    "process": "their machine is started as /sbin/init, and nspawn starts /usr/lib/systemd/systemd",
    "user": "their machine has no D-Bus, whose user has the number of their sshd",
}
"""Those that are not, and why."""


@cache
def upstream() -> ModuleType:
    """The file with the cases, which conftest.py fetched."""
    spec = importlib.util.spec_from_file_location("cases", Path(__file__).with_name("made") / "cases.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(case: str, host: Host) -> None:
    """Runs one case as pytest would."""
    function = getattr(upstream(), f"test_{case}")
    known = {"host": host, **GIVEN}
    function(**{name: known[name] for name in inspect.signature(function).parameters})


def test_each_case_is_run_or_it_is_said_why_not() -> None:
    there = {name.removeprefix("test_") for name in vars(upstream()) if name.startswith("test_")}
    assert there == {*CASES, *DESTRUCTIVE, *LEFT}


@pytest.mark.parametrize("case", CASES)
def test_case(case: str, machine: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "socket":  # it counts the connection that it comes by, unless that is Docker's, which is none, as ours
        monkeypatch.setattr(machine.backend, "get_connection_type", lambda: "docker", raising=False)
    make(case, machine)


@pytest.mark.parametrize("case", DESTRUCTIVE)
def test_destructive_case(case: str, disposable_machine: Host) -> None:
    make(case, disposable_machine)


def test_processes(machine: Host) -> None:
    init = machine.process.get(pid=1)
    assert (init.ppid, init.euid, init.user, init.comm) == (0, 0, "root", "systemd")


def test_users(machine: Host) -> None:
    user = machine.user("sshd")
    assert (user.gid, user.group, user.gids, user.groups) == (65534, "nogroup", [65534], ["nogroup"])
    assert (user.shell, user.home, user.password) == ("/usr/sbin/nologin", "/run/sshd", "!")
