"""The network segment of a build: others reach a machine on it, and nothing of it is left, whatever ends it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.command import SILENT
from pipeline.errors import CheckFailed
from pipeline.machine import Network, leash
from pipeline.network import Segment, peer, segment
from pipeline.place import Place
from tests.conftest import code

HOLDER = """
import time
from pipeline.command import SILENT
from pipeline.machine import leash
from pipeline.network import peer, segment
with segment(leash(), SILENT) as made:
    peer(made)
    print(made.name, flush=True)
    time.sleep(600)
"""


def there(segment: str) -> set[str]:
    """What a segment is made of, as the host has it: links, namespaces, units, and files for these."""
    units = subprocess.run(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", "goldspawn-segment-*"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    folders = [Path(one) for one in ("/sys/class/net", "/run/netns", "/etc/netns")]
    found = {str(path) for folder in folders if folder.exists() for path in folder.iterdir()}
    found |= {line.split()[0] for line in units}
    return {one for one in found if re.search(rf"\b{segment}(?![0-9x])", one)}


def test_hosts_on_a_segment_reach_each_other_and_nothing_else(place: Place) -> None:
    with segment(leash(), SILENT, place.slowness) as made:
        one, other = peer(made, 2), peer(made, 3)
        for target in ("198.18.0.3", "fd67:6f6c:6473::3", "router"):
            one.run_expect([0], f"ping -c 1 -W 20 {target}")
        assert other.check_output("hostname -I || ip -brief address").split()
        assert one.run("ping -c 1 -W 2 192.0.2.1").rc != 0
        assert not [line for line in Path("/proc/net/fib_trie").read_text().splitlines() if "198.18." in line]
        assert {f"/sys/class/net/{made.name}", f"/run/netns/{made.name}-router"} <= there(made.name)
    assert there(made.name) == set()


def test_two_segments_of_one_process_are_two(place: Place) -> None:
    """A session keeps that of its last machine, while a test makes one of its own."""
    with segment(leash(), SILENT, place.slowness) as one, segment(leash(), SILENT, place.slowness) as other:
        assert one.name != other.name
        peer(one).run_expect([0], "ping -c 1 -W 20 router")
        peer(other).run_expect([0], "ping -c 1 -W 20 router")
        assert peer(one, 3).run("ping -c 1 -W 20 198.18.0.2").rc == 0
    assert there(one.name) | there(other.name) == set()


def test_a_machine_without_a_virtual_link_is_told_what_it_lacks() -> None:
    network = Network("no-such-machine", Segment("gs0", SILENT), SILENT)
    for spoilt in (network.cut(), network.bad(loss=10)):
        with pytest.raises(CheckFailed, match="no host0") as caught, spoilt:
            pass
        assert "nspawn.network.virtual_ethernet = true of image.toml gives it one" in str(caught.value)


def test_a_killed_run_leaves_no_segment(place: Place) -> None:
    argv = [sys.executable, "-c", HOLDER]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, **code()})
    try:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert f"/sys/class/net/{name}" in there(name)
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + place.limit(20)
    while left := there(name):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
