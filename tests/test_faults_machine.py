"""What goes wrong around a machine while it is verified: a clear verdict in bounded time, and nothing is left.

That the bridge vanishes is in test_network, that the guest freezes or is killed in test_moving.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pipeline import remains
from pipeline.place import Place
from tests.conftest import SMALL, Session, Sessions
from tests.test_network import there

# Nobody answers at the other end of this link: a DHCP server that is silent.
DEAF = {
    "etc/systemd/network/10-lan.netdev": "[NetDev]\nName=lan\nKind=veth\n[Peer]\nName=nobody\n",
    "etc/systemd/network/10-others.network": "[Match]\nName=host0 nobody\n[Network]\nLinkLocalAddressing=no\n"
    "IPv6AcceptRA=no\n[Link]\nRequiredForOnline=no\n",
    "etc/systemd/network/20-lan.network": "[Match]\nName=lan\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\n"
    "LinkLocalAddressing=no\n",
    "etc/systemd/system/multi-user.target.d/online.conf": "[Unit]\nWants=network-online.target\n",
    "etc/systemd/system/systemd-networkd-wait-online.service.d/limit.conf": "[Service]\nExecStart=\n"
    "ExecStart=/usr/lib/systemd/systemd-networkd-wait-online --timeout=10\n",
}
NETWORKED = """
[profile]
enable = ["systemd-networkd.service", "systemd-networkd-wait-online.service"]
"""
CUT = """
import pytest

@pytest.fixture
def cut(network):
    address, link = network.address(4), network.cut()
    link.__enter__()
    yield address
    link.__exit__(None, None, None)

def test_it_answers(peer, cut):
    address = cut
    assert peer.run(f"ping -c 1 -W 5 {address}").rc == 0, f"{address} does not answer"

def test_what_needs_no_link_goes_on(machine):
    assert machine.run("true").rc == 0
"""
LOST = """
import subprocess
import time

import pytest

@pytest.fixture
def silence(network):
    "The segment's server of addresses stands still."
    unit = f"goldspawn-segment-router-{network.segment.name}.service"
    subprocess.run(["systemctl", "kill", "--signal=STOP", unit], check=True)
    yield
    subprocess.run(["systemctl", "kill", "--signal=CONT", unit], check=True)

def test_a_lease_that_nobody_gives(silence, machine, network):
    network.address(4)
    machine.check_output("networkctl reconfigure host0")
    deadline = time.monotonic() + 60
    while network.addresses and time.monotonic() < deadline:
        time.sleep(0.2)
    network.address(4, seconds=0.5)

def test_a_boot_without_a_lease(silence, disposable_machine):
    pass

def test_the_server_is_back(machine, network):
    machine.check_output("networkctl reconfigure host0")
    assert network.address(4).startswith("198.18.0.1")

def test_without_a_bridge(network, peer):
    address = network.address(4)
    assert peer.run(f"ping -c 1 -W 20 {address}").rc == 0
    subprocess.run(["ip", "link", "del", network.segment.name], check=True)
    assert peer.run(f"ping -c 1 -W 2 {address}").rc == 0, f"{address} does not answer"

def test_one_more_peer(network):
    network.peer()

def test_one_more_machine(disposable_machine):
    pass

def test_what_needs_no_link(machine):
    assert machine.run("true").rc == 0
"""
HUNGRY = """
[Service]
Type=oneshot
ExecStart=/usr/bin/perl -e 'my $x = "x" x (800 * 1024 * 1024); sleep 1'
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Run:
    sessions: Sessions
    session: Session
    seconds: float

    def log(self, image: str) -> str:
        return (self.sessions.artifacts / f"logs/{image}.log").read_text()


@pytest.fixture(scope="module")
def run(bootstrapped: Place, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One session on three machines, each with a trouble of its own."""
    sessions = Sessions(tmp_path_factory.mktemp("troubles"))
    sessions.image("deaf", SMALL + NETWORKED, root=DEAF)
    sessions.image("cut", SMALL + NETWORKED, tests=CUT)
    limit = "etc/systemd/system/systemd-networkd-wait-online.service.d/limit.conf"
    asks = "[Match]\nName=host0\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n"
    online = "etc/systemd/system/multi-user.target.d/online.conf"
    root = {limit: DEAF[limit], online: DEAF[online], "etc/systemd/network/10-host0.network": asks}
    sessions.image("lost", SMALL + NETWORKED, tests=LOST, root=root)
    hungry = '[profile]\nenable = ["hungry.service"]\n[boot]\nmemory_max = "200M"\n[service]\nmemory_swap_max = "0"\n'
    sessions.image("hungry", SMALL + hungry, root={"etc/systemd/system/hungry.service": HUNGRY})
    started = time.monotonic()
    slow = [f"--deselect={image}/image.toml::machinectl_{one}"
            for image in ("cut", "lost") for one in ("shell", "login", "reboot")]  # fmt: skip
    ended = sessions.run("-n2", "--tb=short", *slow, limit=900)
    return Run(sessions, ended, time.monotonic() - started)


def verdict(run: Run, image: str, word: str) -> list[str]:
    """The checks of an image beside which pytest-xdist printed this word, in order."""
    return re.findall(rf"{word} {image}/\S*::(\S+)", run.session.output)


def test_a_dhcp_server_that_is_silent_is_told_by_the_unit_that_waited(run: Run) -> None:
    assert verdict(run, "deaf", "FAILED")[:1] == ["boot"], run.session.output
    assert "systemd-networkd-wait-online.service failed; its journal ends:" in run.session.output


def test_a_link_that_is_cut_fails_the_test_that_needs_it_and_no_other(run: Run) -> None:
    assert verdict(run, "cut", "FAILED")[:1] == ["test_it_answers"], run.session.output
    assert "does not answer" in run.session.output
    passed = verdict(run, "cut", "PASSED")
    assert {"test_what_needs_no_link_goes_on", "machinectl_poweroff"} <= set(passed), run.session.output


def test_a_server_of_addresses_that_is_silent_is_told_by_who_waits_for_one(run: Run) -> None:
    found = run.session.output
    assert verdict(run, "lost", "FAILED")[0] == "test_a_lease_that_nobody_gives", found
    assert re.search(r"the machine has no IPv4 address after \d+ s", found)
    assert verdict(run, "lost", "ERROR")[0] == "test_a_boot_without_a_lease", found
    assert len(re.findall(r"systemd-networkd-wait-online\.service failed; its journal ends:", found)) >= 2
    assert "test_the_server_is_back" in verdict(run, "lost", "PASSED"), found


def test_a_bridge_that_vanishes_fails_the_tests_that_need_it_and_no_other(run: Run) -> None:
    found = run.session.output
    assert verdict(run, "lost", "FAILED")[1:3] == ["test_without_a_bridge", "test_one_more_peer"], found
    assert re.search(r"exit status \d+: ip .*master gs\d+", found) and "does not exist" in found
    assert verdict(run, "lost", "ERROR")[1:2] == ["test_one_more_machine"], found
    assert "the machine ended while it was booting" in found
    assert {"test_what_needs_no_link", "machinectl_poweroff"} <= set(verdict(run, "lost", "PASSED")), found


def test_what_machines_said_is_kept_when_they_fail(run: Run) -> None:
    """One that never came up, one of which a unit failed, and one of which a test failed."""
    for image, said in (("deaf", "wait-online"), ("hungry", "hungry.service"), ("cut", "systemd-networkd")):
        left = remains.load(run.sessions.artifacts / f"logs/{image}.log")
        assert said in left.journal, image
        assert "systemd" in [one.name for one in left.packages], image
        assert left.boot is not None and left.boot.seconds > 0 and "<svg" in left.chart, image


def test_memory_that_runs_out_is_told_by_the_unit_that_was_killed(run: Run) -> None:
    assert verdict(run, "hungry", "FAILED")[:1] == ["boot"], run.session.output
    assert re.search(r"hungry\.service failed; its journal ends:(\n.*)*oom-kill", run.session.output)


def test_nothing_is_left_and_it_ends_in_time(run: Run, place: Place, nothing_left: Callable[..., list[str]]) -> None:
    assert run.session.status == 1
    assert run.seconds < place.limit(60)
    segments = {
        name
        for image in ("deaf", "cut", "lost", "hungry")
        for name in re.findall(r"^\$ ip link add (gs\w+) type bridge", run.log(image), re.M)
    }
    assert segments
    assert [one for name in segments for one in there(name)] == []
    assert nothing_left("deaf-gs", "cut-gs", "lost-gs", "hungry-gs") == []
