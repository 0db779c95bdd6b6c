"""What goes wrong around a machine while it is verified: a clear verdict in bounded time, and nothing is left.

That the bridge vanishes is in test_network, that the guest freezes or is killed in test_moving.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

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
    hungry = '[profile]\nenable = ["hungry.service"]\n[boot]\nmemory_max = "200M"\n[service]\nmemory_swap_max = "0"\n'
    sessions.image("hungry", SMALL + hungry, root={"etc/systemd/system/hungry.service": HUNGRY})
    started = time.monotonic()
    slow = [f"--deselect=cut/image.toml::machinectl_{one}" for one in ("shell", "login", "reboot")]
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


def test_memory_that_runs_out_is_told_by_the_unit_that_was_killed(run: Run) -> None:
    assert verdict(run, "hungry", "FAILED")[:1] == ["boot"], run.session.output
    assert re.search(r"hungry\.service failed; its journal ends:(\n.*)*oom-kill", run.session.output)


def test_nothing_is_left_and_it_ends_in_time(run: Run, place: Place, nothing_left: Callable[..., list[str]]) -> None:
    assert run.session.status == 1
    assert run.seconds < place.limit(60)
    segments = {
        name
        for image in ("deaf", "cut", "hungry")
        for name in re.findall(r"^\$ ip link add (gs\w+) type bridge", run.log(image), re.M)
    }
    assert segments
    assert [one for name in segments for one in there(name)] == []
    assert nothing_left("deaf-gs", "cut-gs", "hungry-gs") == []
