"""Settings of image.toml in a running machine, as its processes and its control group have them.

docs/network.md says which test proves which key.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.place import Place
from tests.conftest import SMALL, Sessions
from tests.test_network import there

SETTINGS = (
    SMALL
    + """
[profile]
timezone = "Europe/Berlin"

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
personality = "x86"
system_call_filter = ["~mincore", "@keyring"]
limits = { core = "0", msgqueue = "4096:8192" }
cpu_affinity = [0]
resolv_conf = "copy-host"
timezone = "copy"
suppress_sync = true

[nspawn.files]
bind = ["/usr/share/zoneinfo:/srv/bound", "/run/goldspawn-host:/srv/mapped:idmap"]
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
io_weight = 55
device_allow = ["/dev/fuse rwm"]
"""
)

HOSTS = Path("/run/goldspawn-host")
"""A directory of the host's, on a file system on which user ids can be mapped."""

SEEN = r'''
import json
import subprocess


def inside(machine, *argv):
    """What a command of the host's prints in the machine's network."""
    leader = subprocess.run(["machinectl", "show", machine.backend.name, "--property=Leader", "--value"],
                            capture_output=True, text=True, check=True).stdout.strip()
    return subprocess.run(["nsenter", f"--target={leader}", "--net", *argv],
                          capture_output=True, text=True, check=True).stdout


def kinds(machine):
    """The machine's links, each with its kind."""
    links = json.loads(inside(machine, "ip", "-json", "-details", "link"))
    return {link["ifname"]: link.get("linkinfo", {}).get("info_kind") for link in links}


def carries(machine, network, link, net):
    """Asserts that a neighbour on the segment reaches the machine by this link."""
    inside(machine, "ip", "address", "add", f"{net}.20/24", "dev", link)
    inside(machine, "ip", "link", "set", link, "up")
    network.peer(f"{net}.9/24").run_expect([0], f"ping -c 1 -W 20 {net}.20")


def started(machine):
    """When the host's unit was started, and when all in the machine was, in microseconds of the same clock."""
    unit = f"goldspawn-machine-{machine.backend.name}.service"
    argv = ["systemctl", "show", "--value", "--property=ActiveEnterTimestampMonotonic", unit]
    enter = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return int(enter), int(machine.check_output("systemctl show --value --property=FinishTimestampMonotonic"))
'''

HOLD = (
    SEEN
    + r'''
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
    ("pids.max", "200"), ("cpu.max", "190000 100000"), ("cpu.weight", "77"), ("io.weight", "default 55"),
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
    assert machine.check_output("uname -m") == "i686"
    # 27 is mincore(2) of x86-64, 248 add_key(2): 1 is EPERM, else ENOMEM and EFAULT (12, 14) for an address like this.
    calls = "for (27, 248) { syscall($_, 4096, 4096, 0, 0, 0); print $!+0, q( ) }"
    assert machine.check_output(f"perl -e '{calls}'").split() == ["1", "14"]


def test_nothing_is_forced_to_the_disk(machine):
    # 74 is fsync(2) of x86-64: not even asked whether there is such a file.
    assert machine.check_output("perl -e 'print syscall(74, 9999)'") == "0"


@pytest.mark.parametrize(("name", "values"), [
    ("Max core file size", ["0", "0"]), ("Max msgqueue size", ["4096", "8192"]),
    ("Max open files", ["4096", "4096"]),
])
def test_limits(name, values, machine):
    assert machine.check_output(f"grep '^{name} ' /proc/1/limits")[len(name):].split()[:2] == values


def test_names_are_resolved_as_by_the_host(machine):
    assert machine.file("/etc/resolv.conf").content_string == Path("/etc/resolv.conf").read_text()


def test_the_time_zone_is_the_hosts(machine):
    zone = subprocess.run(["date", "+%Z"], capture_output=True, text=True).stdout.strip()
    assert machine.check_output("date +%Z") == zone
    assert zone not in ("CET", "CEST"), "that of the profile"


def test_processors(machine):
    assert status(machine, "Cpus_allowed_list") == "0"


def test_private_users(machine):
    inside, outside, count = machine.check_output("cat /proc/1/uid_map").split()
    assert inside == "0" and int(outside) > 65535 and count == "65536"


def test_a_writable_bind_is_seen_and_what_is_written_is_lost(machine):
    assert machine.run("test -e /srv/bound/Europe").rc == 0
    machine.run("touch /srv/bound/written")
    assert not Path("/usr/share/zoneinfo/written").exists()


def test_a_mapped_bind_can_be_written_and_what_is_written_is_lost(machine):
    assert machine.check_output("stat --format=%u /srv/mapped /srv/mapped/file").split() == ["0", "0"]
    machine.check_output("touch /srv/mapped/new && echo more >> /srv/mapped/file && rm /srv/mapped/gone")
    assert machine.check_output("cat /srv/mapped/file").split() == ["host", "more"]
    host = Path("/run/goldspawn-host")
    assert sorted(path.name for path in host.iterdir()) == ["file", "gone"]
    assert (host / "file").read_text() == "host\n"


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


def test_links(machine, network):
    assert kinds(machine) == {"lo": None, "host0": "veth", "mv-eth7": "macvlan", "more": "veth"}
    carries(machine, network, "mv-eth7", "192.168.71")
    carries(machine, network, "more", "192.168.72")


def test_it_counts_as_started_when_all_in_it_is(machine):
    unit, inside = started(machine)
    assert unit > inside - 500_000


def test_at_last_the_bridge_vanishes(machine, peer, network):
    """What comes after this, poweroff and clearing, has to end well all the same."""
    peer.run_expect([0], "ping -c 1 -W 20 198.18.0.1")
    subprocess.run(["ip", "link", "del", network.segment.name], check=True)
    assert peer.run("ping -c 1 -W 2 198.18.0.1").rc != 0
    assert machine.run("true").rc == 0
'''
)


def slow(image: str) -> list[str]:
    """Options that leave checks out which have tests of their own."""
    return [f"--deselect={image}/image.toml::machinectl_{one}" for one in ("shell", "login", "status", "show")]


@pytest.fixture
def hosts() -> Iterator[None]:
    """`HOSTS` with what a machine may see of it."""
    HOSTS.mkdir()
    (HOSTS / "file").write_text("host\n")
    (HOSTS / "gone").touch()
    try:
        yield
    finally:
        shutil.rmtree(HOSTS)


def test_settings_hold_in_the_running_machine(bootstrapped: Place, hosts: None, sessions: Sessions) -> None:
    """Also after a reboot, which comes before the machine's own tests."""
    sessions.image("settings", SETTINGS, tests=HOLD)
    ended = sessions.run("--image=settings", *slow("settings"))
    assert ended.status == 0, ended.output
    assert ended.outcome("test_links") == "PASSED", ended.output
    assert ended.outcome("machinectl_poweroff") == "PASSED", ended.output
    assert "VirtualEthernetExtra=ve-more:more: on the build's own segment" in ended.output
    made = re.search(
        r"^\$ ip link add (gs\w+) type bridge", (sessions.artifacts / "logs/settings.log").read_text(), re.M
    )
    assert made is not None and there(made[1]) == set()
    assert list(Path("/var/tmp/goldspawn-written").glob("settings-gs*")) == []


WITHOUT_USERS = (
    SMALL
    + """
[profile]
mask = ["systemd-tmpfiles-clean.timer"]

[boot]
private_users = false

[nspawn.exec]
notify_ready = false
oom_score_adjust = 321

[nspawn.files]
read_only = true
temporary_file_system = ["/var/lib/systemd:mode=755", "/var/log"]
overlay = ["+/opt::/opt"]
overlay_read_only = ["/usr/share/zoneinfo:/usr/share/misc:/mnt"]

[nspawn.network]
ipvlan = ["eth8"]
interface = ["eth9"]
port = ["tcp:8080:80"]
"""
)

ASKS_WITHOUT_USERS = (
    SEEN
    + r"""
def test_how_soon_it_is_killed(machine):
    assert machine.check_output("cat /proc/1/oom_score_adj") == "321"


def test_its_users_are_the_hosts(machine):
    assert machine.check_output("cat /proc/1/uid_map").split() == ["0", "0", "4294967295"]


def test_its_root_is_read_only(machine):
    assert "Read-only file system" in machine.run("touch /etc/written").stderr
    assert machine.run("touch /var/log/written").rc == 0


def test_an_overlay_that_is_read_only(machine):
    assert machine.run("test -e /mnt/Europe").rc == 0
    assert "Read-only file system" in machine.run("touch /mnt/written").stderr


def test_what_is_written_to_an_overlay_is_seen(machine):
    assert machine.check_output("touch /opt/new && ls /opt") == "new"


def test_links(machine, network):
    assert kinds(machine) == {"lo": None, "iv-eth8": "ipvlan", "eth9": "veth"}
    carries(machine, network, "iv-eth8", "192.168.81")
    carries(machine, network, "eth9", "192.168.82")


def test_it_counts_as_started_before_all_in_it_is(machine):
    unit, inside = started(machine)
    assert unit < inside - 500_000
"""
)

FORGETFUL = (
    SMALL
    + """
[profile]
enable = ["systemd-networkd.service"]

[nspawn.files]
volatile = "state"
bind_user = ["gs-guest"]

[nspawn.network]
zone = "lan"

[service]
ip_address_deny = ["192.168.7.8"]
"""
)

FIXED = """
[Match]
Name=host0
[Network]
Address=192.168.7.20/24
Address=fd00:7::20/64
IPv6AcceptRA=no
"""

ASKS_FORGETFUL = r"""
def test_what_is_below_var_is_forgotten(machine):
    assert machine.check_output("stat --file-system --format=%T /var") == "tmpfs"
    assert "Read-only file system" in machine.run("touch /etc/written").stderr


def test_a_user_of_the_host(machine):
    # Who has nss-systemd finds it by getent(1); this machine has not.
    assert "gs-guest.user" in machine.check_output("ls /run/host/userdb").split()
    assert machine.check_output("cat /run/host/home/gs-guest/here") == "here"


def test_the_zone_is_the_segment(machine):
    assert set(machine.check_output("ls /sys/class/net").split()) == {"lo", "host0"}


def test_a_machine_with_fixed_addresses_is_reached_from_its_own_net(network, peer):
    assert (network.address(4), network.address(6)) == ("192.168.7.20", "fd00:7::20")
    neighbour = network.peer("192.168.7.9/24", "fd00:7::9/64")
    for address in ("192.168.7.20", "fd00:7::20"):
        neighbour.run_expect([0], f"ping -c 1 -W 20 {address}")
        assert peer.run(f"ping -c 1 -W 2 {address}").rc != 0


def test_an_address_to_which_it_may_not_speak(machine):
    said = [
        machine.check_output(
            "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(Proto => q(udp), PeerAddr => shift);"
            f" print $s->send(q(x)) ? q(sent) : $!' 192.168.7.{last}:9"
        )
        for last in (8, 9)
    ]
    assert said == ["Operation not permitted", "sent"]
"""


@pytest.fixture
def guest_user() -> Iterator[str]:
    """A user of this host, with a home."""
    name = "gs-guest"
    subprocess.run(["useradd", "--create-home", name], check=True)
    try:
        subprocess.run(["sh", "-c", f"printf here > /home/{name}/here"], check=True)
        yield name
    finally:
        subprocess.run(["userdel", "--remove", name], check=True)


def test_settings_of_a_machine_without_users_of_its_own(bootstrapped: Place, sessions: Sessions) -> None:
    sessions.image("shared", WITHOUT_USERS, tests=ASKS_WITHOUT_USERS)
    ended = sessions.run("--image=shared", *slow("shared"))
    assert ended.status == 0, ended.output
    assert "Port=tcp:8080:80: left out, the ports of this host are its own" in ended.output


def test_settings_of_a_machine_that_forgets(bootstrapped: Place, guest_user: str, sessions: Sessions) -> None:
    root = {"etc/systemd/network/10-lan.network": FIXED}
    sessions.image("forgetful", FORGETFUL, tests=ASKS_FORGETFUL, root=root)
    ended = sessions.run("--image=forgetful", *slow("forgetful"), "--deselect=forgetful/image.toml::machinectl_reboot")
    assert ended.status == 0, ended.output
    assert "Zone=lan: on the build's own segment" in ended.output
