"""The seal: the last thing that touches a tree. What would make two machines of one image the same is wiped.

systemd names machine-id, random-seed, hostname, machine-info and credential.secret; forgotten by others are ssh host
keys, DHCP DUIDs and leases, D-Bus's own machine-id, and logs (facts/nspawn.md). What packages left behind and a
machine fetches again anyway (package lists and archives) goes as well.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.command import BuildLog

REMOVED = (
    "etc/ssh/ssh_host_*",
    "etc/machine-info",
    "etc/resolv.conf",
    "etc/hostid",
    "etc/.pwd.lock",
    "etc/*-",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/timesync/clock",
    "var/lib/systemd/network/*",
    "var/lib/dhcp/*",
    "var/lib/dhcpcd/*",
    "var/lib/NetworkManager/*",
    "var/lib/urandom/random-seed",
    "var/lib/apt/lists/*",
    "var/cache/apt/*.bin",
    "var/cache/apt/archives/*.deb",
    "var/cache/apt/archives/partial/*",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/lock*",
    "var/lib/apt/extended_states.new",
    "var/cache/dnf/*",
    "var/cache/pacman/pkg/*",
    "var/cache/zypp/*",
    "root/.bash_history",
    "root/.cache",
    "root/.lesshst",
    "run/*",
    "tmp/*",
    "tmp/.[!.]*",
    "var/tmp/*",
    "var/tmp/.[!.]*",
)
"""Patterns, relative to the tree's root, of what no sealed tree holds."""

_HOST_KEYS = """\
# By goldspawn: an image ships no ssh host keys, so each machine makes its own when it first boots.
[Unit]
Description=SSH host keys of this machine
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
Before=ssh.service ssh.socket sshd.service sshd.socket

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
"""


def seal(tree: Path, *, log: BuildLog) -> None:
    """Wipes the identity and the leftovers of a tree in which nothing runs any more."""
    log.line("seal: machine-id, host keys, seeds, leases, logs and package caches are wiped")
    for pattern in REMOVED:
        for path in tree.glob(pattern):
            _remove(path)
    # machine-id(5): "uninitialized" makes the first boot a first boot, and systemd commits an ID of its own there.
    machine_id = tree / "etc/machine-id"
    machine_id.unlink(missing_ok=True)
    machine_id.write_text("uninitialized\n")
    machine_id.chmod(0o444)
    _empty_logs(tree / "var/log")
    if (tree / "usr/sbin/sshd").exists():
        _host_keys_at_boot(tree)


def unsealed(tree: Path) -> list[str]:
    """What of a machine's identity still stands in a tree, as readable lines; empty for a sealed one."""
    found = [f"/{path.relative_to(tree)}: has to be gone" for pattern in REMOVED for path in tree.glob(pattern)]
    if (tree / "etc/machine-id").read_text() != "uninitialized\n":
        found.append('/etc/machine-id: has to be "uninitialized"')
    logs = tree / "var/log"
    found += [f"/{path.relative_to(tree)}: a log that is not empty" for path in _files(logs) if path.stat().st_size]
    return found


def _empty_logs(logs: Path) -> None:
    """Empties the logs: programs expect their files and folders to be there, but for the journal's, which it makes."""
    for path in _files(logs):
        if path.suffix in (".gz", ".old", ".1", ".journal", ".xz") or "journal" in path.relative_to(logs).parts:
            path.unlink()
        else:
            path.write_bytes(b"")
    for folder in logs.glob("journal/*"):
        _remove(folder)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _host_keys_at_boot(tree: Path) -> None:
    unit = tree / "etc/systemd/system/goldspawn-ssh-host-keys.service"
    unit.write_text(_HOST_KEYS)
    wants = tree / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    link = wants / unit.name
    link.unlink(missing_ok=True)
    link.symlink_to(f"/etc/systemd/system/{unit.name}")
