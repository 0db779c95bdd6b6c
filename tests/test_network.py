"""The network segment of a build: others reach a machine on it, and nothing of it is left, whatever ends it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from pipeline.command import SILENT
from pipeline.machine import leash
from pipeline.network import peer, segment
from pipeline.place import Place
from tests.conftest import SMALL, Sessions, code

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


SETTINGS = (
    SMALL
    + """
[boot]
memory_max = "256M"
tasks_max = 200
cpu_quota = 190
nofile = 4096

[nspawn.exec]
parameters = ["systemd.setenv=GIVEN=by parameter"]
environment = { SITE = "two words" }
capability = ["CAP_BPF"]
drop_capability = ["CAP_MKNOD"]
no_new_privileges = true
kill_signal = "SIGRTMIN+4"
personality = "x86-64"
system_call_filter = ["~mincore"]
limits = { core = "0", msgqueue = "4096:8192" }
cpu_affinity = [0]

[nspawn.files]
bind = ["/usr/share/zoneinfo:/srv/bound"]
bind_read_only = ["/usr/share/zoneinfo:/srv/read"]
temporary_file_system = ["/mnt:size=1M"]
inaccessible = ["/media"]
overlay = ["+/opt::/opt"]

[nspawn.network]
virtual_ethernet = true
macvlan = ["eth7"]
virtual_ethernet_extra = ["ve-more:more"]

[service]
memory_high = "1G"
memory_swap_max = "0"
cpu_weight = 77
device_allow = ["/dev/fuse rwm"]
"""
)

HOLD = r'''
import subprocess
from pathlib import Path

import pytest


def status(machine, key):
    return machine.check_output(f"grep ^{key}: /proc/1/status").split(":")[1].strip()


def control(file):
    """What the machine's control group says on the host."""
    unit = subprocess.run(
        ["sh", "-c", "systemctl list-units --plain --no-legend 'goldspawn-machine-settings-gs*'"],
        capture_output=True, text=True).stdout.split()[0]
    return Path("/sys/fs/cgroup/machine.slice", unit, file).read_text().strip()


@pytest.mark.parametrize(("file", "value"), [
    ("memory.max", str(256 << 20)), ("memory.high", str(1 << 30)), ("memory.swap.max", "0"),
    ("pids.max", "200"), ("cpu.max", "190000 100000"), ("cpu.weight", "77"),
])
def test_resources(file, value, machine):
    assert control(file) == value


def test_memory_limit_holds(machine):
    used = machine.run("perl -e 'my $x = \"x\" x (600 * 1024 * 1024); print length $x'")
    assert used.rc != 0


def test_parameters(machine):
    assert "systemd.setenv=GIVEN=by parameter" in machine.check_output("tr '\\0' '\\n' < /proc/1/cmdline").splitlines()


def test_environment(machine):
    assert "SITE=two words" in machine.check_output("tr '\\0' '\\n' < /proc/1/environ").splitlines()


def test_capabilities(machine):
    bounding = int(status(machine, "CapBnd"), 16)
    assert bounding >> 39 & 1, "CAP_BPF"
    assert not bounding >> 27 & 1, "CAP_MKNOD"


def test_no_new_privileges(machine):
    assert status(machine, "NoNewPrivs") == "1"


def test_personality_and_system_calls(machine):
    assert machine.check_output("uname -m") == "x86_64"
    # 27 is mincore(2) of x86-64; 1 is EPERM, else it would be ENOMEM for an address like this.
    assert machine.check_output("perl -e 'syscall(27, 4096, 4096, 0); print $!+0'") == "1"


@pytest.mark.parametrize(("name", "values"), [
    ("Max core file size", ["0", "0"]), ("Max msgqueue size", ["4096", "8192"]),
    ("Max open files", ["4096", "4096"]),
])
def test_limits(name, values, machine):
    assert machine.check_output(f"grep '^{name} ' /proc/1/limits")[len(name):].split()[:2] == values


def test_processors(machine):
    assert status(machine, "Cpus_allowed_list") == "0"


def test_private_users(machine):
    inside, outside, count = machine.check_output("cat /proc/1/uid_map").split()
    assert inside == "0" and int(outside) > 65535 and count == "65536"


def test_a_writable_bind_is_seen_and_what_is_written_is_lost(machine):
    assert machine.run("test -e /srv/bound/Europe").rc == 0
    machine.run("touch /srv/bound/written")
    assert not Path("/usr/share/zoneinfo/written").exists()


def test_a_read_only_bind(machine):
    assert machine.run("test -e /srv/read/Europe").rc == 0
    assert "Read-only file system" in machine.run("touch /srv/read/written").stderr


def test_temporary_file_system(machine):
    assert machine.check_output("stat --file-system --format='%T %b %S' /mnt").split()[0] == "tmpfs"
    assert machine.run("head -c 2M /dev/zero > /mnt/file").rc != 0


def test_inaccessible(machine):
    assert machine.check_output("stat --format=%a /media") in ("0", "000")


def test_overlay(machine):
    assert "overlay /opt overlay" in machine.check_output("cat /proc/mounts")


def test_links(machine):
    assert set(machine.check_output("ls /sys/class/net").split()) == {"lo", "host0", "mv-eth7", "more"}


def test_at_last_the_bridge_vanishes(machine, peer, network):
    """What comes after this, poweroff and clearing, has to end well all the same."""
    peer.run_expect([0], "ping -c 1 -W 20 198.18.0.1")
    subprocess.run(["ip", "link", "del", network.segment.name], check=True)
    assert peer.run("ping -c 1 -W 2 198.18.0.1").rc != 0
    assert machine.run("true").rc == 0
'''


def test_settings_hold_in_the_running_machine(bootstrapped: Place, sessions: Sessions) -> None:
    """Also after a reboot, which comes before the machine's own tests."""
    sessions.image("settings", SETTINGS, tests=HOLD)
    slow = [f"--deselect=settings/image.toml::machinectl_{one}" for one in ("shell", "login", "status", "show")]
    ended = sessions.run("--image=settings", *slow)
    assert ended.status == 0, ended.output
    assert ended.outcome("test_links") == "PASSED", ended.output
    assert ended.outcome("machinectl_poweroff") == "PASSED", ended.output
    assert "VirtualEthernetExtra=ve-more:more: on the build's own segment" in ended.output
    made = re.search(
        r"^\$ ip link add (gs\w+) type bridge", (sessions.artifacts / "logs/settings.log").read_text(), re.M
    )
    assert made is not None and there(made[1]) == set()
