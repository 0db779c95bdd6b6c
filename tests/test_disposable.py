"""A machine of one test's own may be ruined: its disk, its link; nothing else feels it, and nothing of it is left.

The same session spoils the link of the machine that is verified.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from pipeline.place import Place
from tests.conftest import SMALL, Session, Sessions
from tests.test_faults_machine import NETWORKED
from tests.test_network import there

TESTS = r"""
import re
import subprocess

FILL = "timeout 40 head -c 200M /dev/urandom > /var/full"  # near a quota ZFS has writers wait
PING = "ping -c 1 -W 10"


def sh(command):
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.split()


def test_a_disk_that_is_full_is_its_own(disposable_machine, machine):
    full = disposable_machine.run(FILL)
    assert full.rc == 124 or "quota exceeded" in full.stderr
    (used,) = sh(f"zfs list -Hpo name,used | grep /{disposable_machine.backend.name} | cut -f 2")
    assert 8 << 20 < int(used) < 96 << 20
    machine.run_expect([0], "head -c 1M /dev/urandom > /var/some")


def test_that_fails_when_its_machine_ends(disposable_machine, machine):
    ended = disposable_machine.run("poweroff --force; sleep 1000")
    assert ended.rc == 0, "as it has to fail"


def test_both_are_gone_by_now(machine):
    boots = sh("zfs list -Ho name -t filesystem | grep /boot/spare-gs")
    assert [one.rpartition("/")[2] for one in boots] == [machine.backend.name]
    assert sh("machinectl list --no-legend | cut -d ' ' -f 1 | grep spare-gs") == [machine.backend.name]
    assert sh("ls /run/systemd/nspawn | grep spare-gs") == [f"{machine.backend.name}.nspawn"]


def test_its_link_is_cut_and_no_other(disposable_machine, disposable_network, network, peer):
    mine, theirs = disposable_network.address(4), network.address(4)
    assert mine != theirs and mine in disposable_machine.check_output("hostname -I").split()
    peer.run_expect([0], f"{PING} {mine}")
    with disposable_network.cut():
        assert peer.run(f"ping -c 1 -W 3 {mine}").rc != 0
        peer.run_expect([0], f"{PING} {theirs}")
    peer.run_expect([0], f"ping -c 1 -w 60 {mine}")


def test_a_bad_link_loses_all(network, peer):
    address = network.address(4)
    peer.run_expect([0], f"{PING} {address}")
    with network.bad(loss=100):
        assert "3 packets transmitted, 0 received" in peer.run(f"ping -c 3 -W 2 {address}").stdout
    peer.run_expect([0], f"{PING} {address}")


def test_a_bad_link_takes_its_time(network, peer):
    def milliseconds():
        return [float(one) for one in re.findall(r"time=([\d.]+) ms", peer.check_output(f"ping -c 3 -W 30 {address}"))]

    address = network.address(4)
    assert min(milliseconds()) < 1500
    with network.bad(delay=1.5):
        assert min(milliseconds()) >= 1500
    assert min(milliseconds()) < 1500


def test_another_peer(network):
    network.peer().run_expect([0], f"{PING} {network.address(4)}")
"""
NAMES = re.findall(r"def (test_\w+)", TESTS)


@pytest.fixture(scope="module")
def spare(bootstrapped: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sessions, Session]:
    """One session on a machine that can write 64 MB."""
    sessions = Sessions(tmp_path_factory.mktemp("spare"))
    sessions.image("spare", SMALL + NETWORKED + '[boot]\nroom = "64M"\n', tests=TESTS)
    slow = [f"--deselect=spare/image.toml::machinectl_{one}" for one in ("status", "shell", "login", "reboot")]
    return sessions, sessions.run("--image=spare", *slow, limit=900)


@pytest.mark.parametrize("name", NAMES)
def test_each(name: str, spare: tuple[Sessions, Session]) -> None:
    wanted = "FAILED" if name == "test_that_fails_when_its_machine_ends" else "PASSED"
    assert spare[1].outcome(name) == wanted, spare[1].output


def test_a_command_ends_with_its_machine(spare: tuple[Sessions, Session]) -> None:
    assert re.search(r"exit_status=(255|1)\b.*poweroff --force", spare[1].output), spare[1].output


def test_nothing_is_left(spare: tuple[Sessions, Session], nothing_left: Callable[..., list[str]]) -> None:
    log = (spare[0].artifacts / "logs/spare.log").read_text()
    (segment,) = re.findall(r"^\$ ip link add (gs\w+) type bridge", log, re.M)
    assert there(segment) == set()
    assert nothing_left("spare-gs") == []
