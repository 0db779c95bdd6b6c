"""Settings of image.toml on a host: a machine that systemd-nspawn@.service runs with the files that ship.

What a machine that is verified has not is proven here; docs/network.md says which test proves which key. The tests are
in the order of the machine's life: it is killed, started again, and stopped at last.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.machine import host, settings
from pipeline.machine.unit import leader
from pipeline.place import Place
from tests.containers import Container, image

NAME = "gs-shipped"
UNIT = f"systemd-nspawn@{NAME}.service"
GROUP = Path("/sys/fs/cgroup/gstest.slice", UNIT)
LAST = max(os.sched_getaffinity(0))
"""A processor of this place; where there are several, not the one that comes first."""

IDENTITY = "0123456789abcdef0123456789abcdef"
JOURNAL = Path("/var/log/journal", IDENTITY)

TEXT = f"""
[boot]
memory_max = "300M"

[nspawn.exec]
link_journal = "guest"
kill_signal = "SIGRTMIN+22"

[nspawn.files]
bind_read_only = ["/dev/zfs"]

[nspawn.network]
private = false

[service]
memory_low = "20M"
memory_swap_max = "0"
allowed_cpus = "{LAST}"
device_policy = "strict"
device_allow = ["/dev/null", "/dev/zero", "/dev/full m", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx",
                "/dev/zfs rw"]
ip_address_deny = ["any"]
ip_address_allow = ["127.0.0.9"]
restart = "on-failure"
restart_sec = 1.5
timeout_stop_sec = 8
oom_policy = "kill"
slice = "gstest.slice"
"""


def sh(*argv: str, check: bool = True) -> str:
    return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=300).stdout.strip()


def wait(until: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def shown(key: str) -> str:
    return sh("systemctl", "show", "--value", f"--property={key}", UNIT)


def printed() -> str:
    """What the unit and its machine's console printed last."""
    return sh("journalctl", "--no-pager", "--output=cat", f"--unit={UNIT}", "--lines=40")


@pytest.fixture(scope="module")
def container(small_tree: Path) -> Iterator[Container]:
    """A small Debian with a machine ID."""
    (small_tree / "etc/machine-id").write_text(f"{IDENTITY}\n")
    made = Container("gs-host", small_tree)
    yield made
    made.file.unlink(missing_ok=True)


JOURNALS = """
mkdir -p /var/log
mount -t tmpfs tmpfs /var/log
$1
shift
"$@" || echo refused
for one in /var/log/journal/*; do
    readlink "$one" || { [ -d "$one" ] && echo directory; }
    ls "$one"
done
true
"""
"""Runs a container with an empty /var/log of the host's, and tells what of journals is there then."""


@pytest.mark.parametrize(
    ("how", "before", "seen"),
    [
        ("no", "mkdir /var/log/journal", []),
        ("guest", "mkdir /var/log/journal", [f"TREE/var/log/journal/{IDENTITY}", "told"]),
        ("host", "mkdir /var/log/journal", ["directory", "told"]),
        ("auto", "mkdir /var/log/journal", []),
        ("auto", f"mkdir -p /var/log/journal/{IDENTITY}", ["directory", "told"]),
        ("try-guest", "mkdir /var/log/journal", [f"TREE/var/log/journal/{IDENTITY}", "told"]),
        ("try-host", "mkdir /var/log/journal", ["directory", "told"]),
        ("try-guest", "true", []),
        ("try-host", "true", []),
        ("guest", "true", ["refused"]),
        ("host", "true", ["refused"]),
    ],
)
def test_the_host_sees_the_journal_as_said(
    how: str, before: str, seen: list[str], container: Container, tmp_path: Path
) -> None:
    inside = container.tree / "var/log/journal"
    shutil.rmtree(inside, ignore_errors=True)
    ships = settings.shipped(image(tmp_path, f'[nspawn.exec]\nlink_journal = "{how}"'))
    tells = f"mkdir -p /var/log/journal/{IDENTITY} && touch /var/log/journal/{IDENTITY}/told"
    argv = ["unshare", "--mount", "sh", "-c", JOURNALS, "sh", before]
    told = sh(*argv, *container.argv(ships, "/bin/sh", "-c", tells)).splitlines()
    assert [line.replace(str(container.tree), "TREE") for line in told] == seen


SERVES = """
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalPort => 80, Listen => 5, ReuseAddr => 1) or die;
while (my $peer = $server->accept) { print $peer "machine for ", $peer->peerhost, "\\n"; close $peer }
"""
ASKS = "import socket; print(socket.create_connection(('192.0.2.1', 8080), 5).makefile().read())"

OUTSIDE = """
ip netns add gs-outside
ip link add gs-out type veth peer name eth0 netns gs-outside
ip address add 192.0.2.1/24 dev gs-out
ip link set gs-out up
ip -n gs-outside address add 192.0.2.2/24 dev eth0
ip -n gs-outside link set eth0 up
ip address add 198.51.100.1/24 dev ve-gs-host
ip link set ve-gs-host up
nsenter --target $1 --net ip link set host0 up
nsenter --target $1 --net ip address add 198.51.100.2/24 dev host0
nsenter --target $1 --net ip route add default via 198.51.100.1
"""
"""A neighbour of the host's, 192.0.2.2, and addresses for the machine's own link."""


def test_a_port_of_the_host_is_the_machines(container: Container, tmp_path: Path, place: Place) -> None:
    ships = settings.shipped(image(tmp_path, '[nspawn.network]\nport = ["tcp:8080:80"]'))
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    with ExitStack() as undo:
        undo.callback(forward.write_text, forward.read_text())
        forward.write_text("1")
        runs = undo.enter_context(
            subprocess.Popen(container.argv(ships, "perl", "-e", SERVES, link=True), stdin=subprocess.DEVNULL)
        )
        undo.callback(runs.terminate)
        children = Path(f"/proc/{runs.pid}/task/{runs.pid}/children")
        wait(lambda: Path("/sys/class/net/ve-gs-host").exists() and children.read_text(), place.limit(20))
        undo.callback(sh, "ip", "netns", "del", "gs-outside", check=False)
        sh("sh", "-ec", OUTSIDE, "sh", children.read_text().split()[0])
        asks = ["ip", "netns", "exec", "gs-outside", "python3", "-c", ASKS]
        wait(lambda: sh(*asks, check=False) == "machine for 192.0.2.2", place.limit(20))


@pytest.fixture(scope="module")
def machine(container: Container, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The machine, started by its unit: where its tree is."""
    texts = dict(settings.files(image(tmp_path_factory.mktemp("image"), TEXT, NAME)))
    tree = Path("/var/lib/machines") / NAME
    files = {
        Path(f"/etc/systemd/nspawn/{NAME}.nspawn"): texts[f"{NAME}.nspawn"],
        Path(f"/etc/systemd/system/{UNIT}.d/goldspawn.conf"): texts[f"{NAME}.conf"],
    }
    with ExitStack() as undo:
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            undo.callback(file.unlink)
        tree.mkdir(parents=True)
        undo.callback(tree.rmdir)
        sh("mount", "--bind", str(container.tree), str(tree))
        # A machine that was killed keeps its tree busy for a while.
        undo.callback(wait, lambda: subprocess.run(["umount", str(tree)], check=False).returncode == 0, 60)
        undo.callback(_forget)
        sh("systemctl", "daemon-reload")
        assert subprocess.run(["systemctl", "start", UNIT], timeout=place.limit(60)).returncode == 0, printed()
        yield tree
    sh("systemctl", "daemon-reload")


def _forget() -> None:
    sh("systemctl", "stop", UNIT, check=False)
    sh("systemctl", "reset-failed", UNIT, check=False)
    left = Path("/run/systemd/nspawn/unix-export", NAME)
    if left.is_mount():  # an nspawn that is killed leaves it
        sh("umount", str(left))
    JOURNAL.unlink(missing_ok=True)


def test_its_control_group_is_in_the_slice_and_has_what_the_drop_in_says(machine: Path) -> None:
    wanted = {"memory.max": str(300 << 20), "memory.low": str(20 << 20), "memory.oom.group": "1"}
    assert {name: (GROUP / name).read_text().strip() for name in wanted} == wanted
    assert Path(f"/proc/{leader(NAME)}/cgroup").read_text().startswith(f"0::/gstest.slice/{UNIT}/")


def test_its_processes_run_where_they_may(machine: Path, tmp_path: Path) -> None:
    """Where the kernel has cpusets; the appliance's has none under TCG, and a run there says so."""
    told = settings.verified(image(tmp_path, TEXT)).unlike
    assert (f"AllowedCPUs={LAST}: the kernel of this place has no cpusets" in told) is not settings.cpusets()
    if settings.cpusets():
        assert (GROUP / "cpuset.cpus.effective").read_text().strip() == str(LAST)
        assert host(NAME).check_output("grep Cpus_allowed_list /proc/self/status").split()[1] == str(LAST)


def test_it_has_the_devices_that_it_may_use_and_no_other(machine: Path) -> None:
    """/dev/full, which it may only make, is one of those that another policy allows; /dev/zfs is none of them."""
    opens = "perl -e 'for (@ARGV) { print open(my $one, q(+<), $_) ? qq(opened\\n) : qq($!\\n) }'"
    told = host(NAME).check_output(f"{opens} /dev/zero /dev/zfs /dev/full").splitlines()
    assert told == ["opened", "opened", "Operation not permitted"]


def test_it_has_the_hosts_network_and_speaks_to_whom_it_may(machine: Path) -> None:
    assert Path(f"/proc/{leader(NAME)}/ns/net").readlink() == Path("/proc/self/ns/net").readlink()
    sends = (
        "perl -MIO::Socket::INET -e '$to = IO::Socket::INET->new(Proto => q(udp), PeerAddr => shift);"
        " print $to->send(q(told)) ? q(sent) : $!'"
    )
    with ExitStack() as open_ones:
        for address, answer in (("127.0.0.8", "Operation not permitted"), ("127.0.0.9", "sent")):
            peer = open_ones.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            peer.bind((address, 0))
            assert host(NAME).check_output(f"{sends} {address}:{peer.getsockname()[1]}") == answer
        peer.settimeout(20)
        assert peer.recv(9) == b"told"


def test_the_host_reads_its_journal(machine: Path) -> None:
    assert JOURNAL.readlink() == Path(f"{machine}{JOURNAL}")
    host(NAME).check_output("echo 'told inside' | systemd-cat --identifier=gs-inside")
    asks = ["journalctl", f"--directory={JOURNAL}", "--output=cat", "--identifier=gs-inside"]
    wait(lambda: sh(*asks, check=False) == "told inside", 30)


def test_it_is_killed_as_a_whole_when_memory_runs_out_and_started_again(machine: Path, place: Place) -> None:
    first, restarts = leader(NAME), int(shown("NRestarts"))
    host(NAME).run("perl -e 'my $x = \"x\" x (600 * 1024 * 1024); print length $x'")
    wait(lambda: shown("NRestarts") != str(restarts), place.limit(20))
    assert not Path(f"/proc/{first}").exists()
    wait(lambda: shown("ActiveState") in ("active", "failed"), place.limit(60))
    assert (shown("ActiveState"), int(shown("NRestarts"))) == ("active", restarts + 1), printed()
    assert leader(NAME) != first
    told = sh("journalctl", "--no-pager", "--output=short-unix", f"--unit={UNIT}")
    ended, again = (
        next(float(line.split()[0]) for line in told.splitlines() if words in line)
        for words in ("Failed with result 'oom-kill'", "Scheduled restart job")
    )
    assert again - ended >= 1.4, "systemd's own is 0.1; the journal's clock is not the timer's"


def test_the_signal_of_a_stop_is_its_own_and_the_host_waits_for_it_as_long_as_said(machine: Path) -> None:
    """SIGRTMIN+22 makes systemd tell more, and not power off."""
    assert host(NAME).check_output("systemctl log-level") == "info"
    assert shown("TimeoutStopUSec") == "8s"
    asked = time.monotonic()
    sh("systemctl", "stop", UNIT)
    assert 8 <= time.monotonic() - asked < 80, "that of systemd is 90, and of the appliance 15"
    assert shown("Result") == "timeout"
    assert not Path("/run/systemd/nspawn/unix-export", NAME).is_mount(), "and it can be started again"
    assert "Setting log level to debug" in sh("journalctl", f"--directory={machine}{JOURNAL}", "--output=cat")
