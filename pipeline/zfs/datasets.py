"""Datasets, snapshots and clones. Knows nothing of images; streams are in `pipeline.lineage.sending`.

What `libzfs_core` (pyzfs) can do goes through it; listing with the source of a property, and pools go through the `zfs`
and `zpool` commands, here and nowhere else. Each act is logged as the command that would do it by hand.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tenacity import retry, retry_if_exception, stop_after_delay, wait_exponential, wait_fixed

from pipeline.command import SILENT, BuildLog, output, run
from pipeline.errors import CommandFailed, PlaceError
from pipeline.zfs.library import ROOM, ZfsError, encoded, explained, lzc
from pipeline.zfs.mounts import mounted

PREFIX = "org.goldspawn:"
"""Prefix of our user properties (zfsprops(7): a module prefix with a colon)."""

MARKS = (
    "owner", "stage", "inputs", "reads", "made", "world", "current", "cycles", "tree", "verdict", "process", "began",
)  # fmt: skip
"""All of our user properties, without the prefix."""

_GONE = "dataset does not exist"
"""What zfs(8) says of a dataset that is not there, or that went away while it walked the tree."""


@dataclass(frozen=True)
class Entry:
    """One dataset or snapshot: its name, kind ("filesystem", "snapshot") and our own user properties.

    `properties` holds those set on the entry itself (not inherited), without the prefix.
    """

    name: str
    kind: str
    properties: Mapping[str, str]


@dataclass(frozen=True)
class Usage:
    """What a dataset or snapshot uses alone (bytes), when it was created (Unix time), the snapshot of which it is a
    clone, the datasets that are clones of it, and whether somebody holds it.
    """

    name: str
    used: int
    created: float
    origin: str
    clones: tuple[str, ...]
    holds: bool


_read_again = retry(
    retry=retry_if_exception(lambda error: isinstance(error, CommandFailed) and _GONE in error.tail),
    wait=wait_fixed(0.2),
    stop=stop_after_delay(30),
    reraise=True,
)
"""Another session may destroy a dataset while a listing is on its way: then it is read anew."""


class Zfs:
    """Operations on datasets, each written to `log`. Names are plain text: `pool/a/b`, `pool/a@snap`."""

    def __init__(self, log: BuildLog = SILENT) -> None:
        self.log = log

    def exists(self, name: str) -> bool:
        return bool(lzc().lzc_exists(name.encode()))

    def create(self, name: str, *, properties: Mapping[str, str] = {}, marks: Mapping[str, str] = {}) -> None:
        """Creates a filesystem, unmounted; `properties` are native ones as zfs(8) takes them, `marks` our own."""
        wanted = {**properties, **_prefixed(marks)}
        self.log.command(["zfs", "create", "-u", *_options(wanted), name])
        with explained("create", name):
            lzc().lzc_create(name.encode(), props=encoded(wanted))

    def snapshot(self, name: str, *, marks: Mapping[str, str] = {}) -> None:
        self.log.command(["zfs", "snapshot", *_options(_prefixed(marks)), name])
        with explained("snapshot", name):
            lzc().lzc_snapshot([name.encode()], props=encoded(_prefixed(marks)))

    def clone(
        self, origin: str, name: str, *, properties: Mapping[str, str] = {}, marks: Mapping[str, str] = {}
    ) -> None:
        wanted = {**properties, **_prefixed(marks)}
        self.log.command(["zfs", "clone", *_options(wanted), origin, name])
        with explained("clone", name):
            lzc().lzc_clone(name.encode(), origin.encode(), props=encoded(wanted))

    def rollback(self, snapshot: str) -> None:
        """Returns a filesystem to a snapshot of its own, the newest one."""
        self.log.command(["zfs", "rollback", snapshot])
        with explained("rollback", snapshot):
            lzc().lzc_rollback_to(snapshot.split("@")[0].encode(), snapshot.encode())

    def rename(self, old: str, new: str) -> None:
        """Renames a dataset or a snapshot (for a snapshot, `new` is its whole new name)."""
        output(["zfs", "rename", *([] if "@" in old else ["-u"]), old, new], log=self.log)

    def mark(self, name: str, marks: Mapping[str, str]) -> None:
        """Sets our user properties on a dataset or snapshot."""
        output(["zfs", "set", *(f"{key}={value}" for key, value in _prefixed(marks).items()), name], log=self.log)

    def destroy(self, name: str) -> None:
        """Destroys a dataset with its snapshots, or one snapshot; does nothing where there is none.

        A machine that has just stopped can keep its dataset busy for some seconds (facts/nspawn.md), so this is
        tried for half a minute. Never destroys a clone that stands on it: that is an error.
        """
        if self.exists(name):
            self.log.command(["zfs", "destroy", *([] if "@" in name else ["-r"]), name])
            try:
                self._destroy(name)
            except ZfsError:
                if self.exists(name):  # else another session was faster
                    raise

    @retry(
        retry=retry_if_exception(lambda error: isinstance(error, ZfsError) and "busy" in str(error).lower()),
        wait=wait_exponential(multiplier=0.1, max=2),
        stop=stop_after_delay(30),
        reraise=True,
    )
    def _destroy(self, name: str) -> None:
        core = lzc()
        with explained("destroy", name):
            if "@" in name:
                core.lzc_destroy_snaps([name.encode()], False)
                return
            snapshots = [entry.name for entry in self.entries(name, depth=1) if entry.kind == "snapshot"]
            if snapshots:
                core.lzc_destroy_snaps([snapshot.encode() for snapshot in snapshots], False)
            core.lzc_destroy(name.encode())

    @_read_again
    def entries(self, name: str, *, depth: int | None = None) -> list[Entry]:
        """The dataset itself and all below it, snapshots included, with our marks; [] where there is none.

        `depth` as zfs-list(8) has it. One call, whatever the number.
        """
        if not self.exists(name):
            return []
        reach = ["-r"] if depth is None else ["-d", str(depth)]
        keys = ",".join(["type", *(PREFIX + mark for mark in MARKS)])
        argv = [
            "zfs",
            "get",
            "-Hp",
            *reach,
            "-t",
            "filesystem,snapshot",
            "-o",
            "name,property,value,source",
            keys,
            name,
        ]
        kinds: dict[str, str] = {}
        marks: dict[str, dict[str, str]] = {}
        for line in output(argv).stdout.splitlines():
            dataset, key, value, source = line.split("\t")
            if key == "type":
                kinds[dataset] = value
            elif source == "local":
                marks.setdefault(dataset, {})[key.removeprefix(PREFIX)] = value
        return [Entry(dataset, kind, marks.get(dataset, {})) for dataset, kind in kinds.items()]

    @_read_again
    def usage(self, name: str) -> list[Usage]:
        """The dataset and all below it, snapshots included: what they use, what they stand on, what stands on them.

        [] where there is none.
        """
        if not self.exists(name):
            return []
        argv = [
            "zfs",
            "list",
            "-Hp",
            "-r",
            "-t",
            "filesystem,snapshot",
            "-o",
            "name,used,creation,origin,clones,userrefs",
        ]
        found = []
        for line in output([*argv, name]).stdout.splitlines():
            dataset, used, created, origin, clones, holds = line.split("\t")
            found.append(
                Usage(
                    dataset, int(used), float(created), "" if origin == "-" else origin,
                    tuple(clone for clone in clones.split(",") if clone not in ("", "-")), holds not in ("0", "-"),
                )
            )  # fmt: skip
        return found

    def get(self, name: str, key: str) -> str:
        """The value of one property in its parsable form (`-p`: bytes, seconds since the epoch)."""
        return output(["zfs", "get", "-Hp", "-o", "value", key, name]).stdout.strip()

    def check_room(self, name: str, needed: int) -> None:
        """Raises `PlaceError` if the pool, or the dataset's quota, has less than `needed` bytes left.

        To be asked before much is written: in a pool that is nearly full each write waits for the disk, for minutes.
        """
        free = int(self.get(name, "available"))
        if free < needed:
            raise PlaceError(
                f"no room in {name}: at least {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free", hint=ROOM
            )

    def mounted(self, name: str, where: Path, *, readonly: bool = False) -> contextlib.AbstractContextManager[Path]:
        """The filesystem (mountpoint=legacy) or snapshot, mounted at `where` while the block runs."""
        return mounted(name, where, readonly=readonly, log=self.log)

    @contextlib.contextmanager
    def held(self, snapshot: str, tag: str) -> Iterator[None]:
        """Keeps a snapshot from being destroyed while the block runs; the hold goes with this process (kill -9 too)."""
        core = lzc()
        cleanup = os.open("/dev/zfs", os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
        try:
            self.log.command(["zfs", "hold", tag, snapshot])
            with explained("hold", snapshot):
                core.lzc_hold({snapshot.encode(): tag.encode()}, cleanup)
            yield
        finally:
            os.close(cleanup)

    def create_file_pool(self, pool: str, file: Path, size: int) -> None:
        """Makes a pool in a sparse file of `size` bytes, or imports the one that is there."""
        if output(["zpool", "list", "-H", "-o", "name", pool], check=False).status == 0:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            run(["zpool", "import", "-N", "-d", str(file), "-o", "cachefile=none", pool], log=self.log, timeout=120)
            return
        with file.open("xb") as handle:
            handle.truncate(size)
        try:
            run(["zpool", "create", "-O", "mountpoint=none", "-o", "cachefile=none", pool, str(file)],
                log=self.log, timeout=120)  # fmt: skip
        except BaseException:
            file.unlink()
            raise

    @staticmethod
    def version() -> str:
        """The version of OpenZFS in the kernel, such as `2.3.9-1`."""
        return Path("/sys/module/zfs/version").read_text().strip()


def _prefixed(marks: Mapping[str, str]) -> dict[str, str]:
    return {PREFIX + key: value for key, value in marks.items()}


def _options(properties: Mapping[str, str]) -> list[str]:
    return [word for key, value in properties.items() for word in ("-o", f"{key}={value}")]
