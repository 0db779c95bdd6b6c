"""Where a build runs: natively, on a host with ZFS and systemd, or in the appliance; and what that place can do.

`choose` decides for a whole session, `Place` is the native place in which the stages work. A session in the
appliance sees a native place as well: the appliance is one.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from filelock import FileLock

from pipeline.errors import InputError, PlaceError
from pipeline.zfs import Entry, Zfs

Where = Literal["native", "appliance"]

RUN = Path("/run/goldspawn")
"""Mounts, locks and leashes of a native place: gone with a reboot, as they must be."""

OWN_POOL = "goldspawn"
OWN_POOL_FILE = Path("/var/lib/goldspawn/pool.img")
OWN_POOL_SIZE = 64 << 30
"""The pool of a host on which no dataset was named: a sparse file, its size in bytes."""

_TOOLS = {
    "zfs": "zfsutils-linux",
    "zpool": "zfsutils-linux",
    "systemd-nspawn": "systemd-container",
    "machinectl": "systemd-container",
    "systemd-run": "systemd",
    "ip": "iproute2",
    "tc": "iproute2",
    "dnsmasq": "dnsmasq-base",
    "nsenter": "util-linux",
    "mount": "mount",
    "tar": "tar",
}
"""What a native place needs: a command, and Debian's package that has it."""

_REFERENCE = 0.008
"""Seconds that `_work` takes on an ordinary host (0.004 measured on a quick x86-64 with Python 3.11)."""


@dataclass(frozen=True)
class Choice:
    """Where the session runs, and why in a few words."""

    where: Where
    why: str


def choose(wish: str) -> Choice:
    """Decides where builds run: `wish` is "auto", "native" or "appliance". Starts nothing and touches nothing."""
    if wish not in ("auto", "native", "appliance"):
        raise InputError(f'where = "{wish}": expected "auto", "native" or "appliance"')
    if wish == "appliance":
        return Choice("appliance", "as asked")
    lacking = _lacking()
    if wish == "native" and lacking:
        raise PlaceError(f"cannot build natively here: {', '.join(lacking)}", hint="--where=appliance needs none of it")
    if lacking:
        return Choice("appliance", ", ".join(lacking))
    return Choice("native", "as asked" if wish == "native" else "this host has ZFS and systemd")


def _lacking() -> list[str]:
    reasons = []
    if os.geteuid() != 0:
        reasons.append("not root")
    if not Path("/sys/module/zfs").exists() and _modprobe_fails():
        reasons.append("no ZFS module")
    if not Path("/run/systemd/system").exists():
        reasons.append("systemd is not PID 1")
    return reasons


def _modprobe_fails() -> bool:
    tool = shutil.which("modprobe", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    dry_run = "-q" if os.geteuid() == 0 else "-nq"
    return tool is None or subprocess.run([tool, dry_run, "zfs"], capture_output=True).returncode != 0


def missing(tools: dict[str, str]) -> PlaceError | None:
    """One error that names all tools that are not here, each with the package that has it."""
    lost = {tool: package for tool, package in tools.items() if shutil.which(tool) is None}
    if not lost:
        return None
    named = ", ".join(f"{tool} (package {package})" for tool, package in lost.items())
    return PlaceError(f"missing here: {named}", hint=f"apt install {' '.join(sorted(set(lost.values())))}")


@dataclass(frozen=True)
class Layout:
    """The datasets under the one that the user named: each kind of ours apart from the others and from theirs."""

    base: str

    @property
    def bootstraps(self) -> str:
        """Root file systems as a distribution leaves them, one a set of inputs; images are clones of these."""
        return f"{self.base}/bootstrap"

    @property
    def work(self) -> str:
        """One dataset an image: the tree that is being made, and its sealed candidate."""
        return f"{self.base}/work"

    @property
    def boots(self) -> str:
        """Clones of candidates that boot, and are thrown away."""
        return f"{self.base}/boot"

    @property
    def builders(self) -> str:
        """Roots in which packages are built, one a set of inputs; builds work in clones of these."""
        return f"{self.base}/builder"

    @property
    def portage(self) -> str:
        """What Gentoo images share: sources, binary packages, repositories, plans."""
        return f"{self.base}/portage"

    @property
    def golden(self) -> str:
        """The newest verified dataset of each image."""
        return f"{self.base}/golden"


class Place:
    """A native place: a dataset to work in, and how slow it is. Opened by `open_place`."""

    def __init__(self, layout: Layout, *, appliance: str | None = None) -> None:
        self.layout = layout
        self.appliance = appliance

    @property
    def name(self) -> str:
        """As the manifest has it: "native", or "appliance (tcg)"."""
        return "native" if self.appliance is None else f"appliance ({self.appliance})"

    @cached_property
    def slowness(self) -> float:
        """How many times slower than an ordinary host this place is, at least 1: what time limits are multiplied by."""
        return max(1.0, min(_work() for _ in range(3)) / _REFERENCE)

    def limit(self, seconds: float) -> float:
        """A time limit for this place, from one in seconds for an ordinary native host."""
        return seconds * self.slowness

    def mountpoint(self, name: str) -> Path:
        """Where a dataset of ours is mounted while it is worked on."""
        return RUN / "mnt" / str(os.getpid()) / name.replace("/", "+")

    def lock(self, name: str) -> Path:
        """The file whose lock guards `name` against another run."""
        return _locks() / f"{name.replace('/', '+')}.lock"


def open_place(dataset: str | None, *, appliance: str | None = None) -> Place:
    """Makes sure of the tools and of the dataset, and lays out ours below it. Idempotent.

    `dataset` is what the user named: it has to exist, and is not itself changed. Without one, a file-backed pool
    of our own is made. Raises `PlaceError` with one clear line, before anything is created.
    """
    if error := missing(_TOOLS):
        raise error
    if importlib.util.find_spec("libzfs_core") is None:
        raise PlaceError(
            "missing here: the Python module libzfs_core (package python3-pyzfs)", hint="apt install python3-pyzfs"
        )
    zfs = Zfs()
    with FileLock(_locks() / "place.lock"):  # the workers of a session all begin here, and at the same moment
        if dataset is None:
            zfs.create_file_pool(OWN_POOL, OWN_POOL_FILE, OWN_POOL_SIZE)
            dataset = OWN_POOL
        elif not zfs.exists(dataset):
            raise PlaceError(
                f"dataset = {dataset}: there is no such dataset", hint=f"zfs create {dataset}, or name one that exists"
            )
        layout = Layout(dataset)
        there = {entry.name: entry for entry in zfs.entries(dataset, depth=1)}
        for name in (layout.bootstraps, layout.work, layout.boots, layout.builders, layout.portage, layout.golden):
            _claim(zfs, name, there.get(name))
    return Place(layout, appliance=appliance)


def _locks() -> Path:
    folder = RUN / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _claim(zfs: Zfs, name: str, entry: Entry | None) -> None:
    if entry is None:
        # acltype and xattr: what systemd's journal and file capabilities need (zfsprops(7)); legacy: we mount.
        properties = {"mountpoint": "legacy", "canmount": "noauto", "acltype": "posix", "xattr": "sa", "atime": "off"}
        zfs.create(name, properties=properties, marks={"owner": "goldspawn"})
    elif entry.properties.get("owner") != "goldspawn":
        raise PlaceError(
            f"dataset {name} exists, and goldspawn did not create it: it is left alone",
            hint="name another dataset, or rename this one",
        )


def _work() -> float:
    started = time.perf_counter()
    total = 0
    for number in range(200_000):
        total += number & 7
    return time.perf_counter() - started
