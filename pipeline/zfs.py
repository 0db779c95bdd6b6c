"""Datasets, snapshots and clones. Knows nothing of images; streams are in `pipeline.lineage.sending`.

What `libzfs_core` (pyzfs) can do goes through it; mounting, listing with the source of a property, and pools go
through the `zfs` and `zpool` commands, here and nowhere else. Each act is logged as the command that would do it
by hand. pyzfs is imported when the first dataset is touched: a machine without ZFS imports this module as well.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tenacity import retry, retry_if_exception, stop_after_delay, wait_exponential, wait_fixed

from pipeline.command import SILENT, BuildLog, output, run
from pipeline.errors import CommandFailed, GoldspawnError, PlaceError

PREFIX = "org.goldspawn:"
"""Prefix of our user properties (zfsprops(7): a module prefix with a colon)."""

MARKS = (
    "owner", "stage", "inputs", "reads", "made", "world", "current", "cycles", "tree", "verdict", "process", "began",
)  # fmt: skip
"""All of our user properties, without the prefix."""

FULL = ("No space left on device", "Disk quota exceeded")
"""What commands print where there is no room (strerror(3) of ENOSPC and EDQUOT)."""

ROOM = "there is no room left in the pool or in the dataset's quota"

_GONE = "dataset does not exist"
"""What zfs(8) says of a dataset that is not there, or that went away while it walked the tree."""


class ZfsError(GoldspawnError):
    """An operation that ZFS refused; the message names the operation, the dataset and ZFS's own reason."""


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
            lzc().lzc_create(name.encode(), props=_encoded(wanted))

    def snapshot(self, name: str, *, marks: Mapping[str, str] = {}) -> None:
        self.log.command(["zfs", "snapshot", *_options(_prefixed(marks)), name])
        with explained("snapshot", name):
            lzc().lzc_snapshot([name.encode()], props=_encoded(_prefixed(marks)))

    def clone(
        self, origin: str, name: str, *, properties: Mapping[str, str] = {}, marks: Mapping[str, str] = {}
    ) -> None:
        wanted = {**properties, **_prefixed(marks)}
        self.log.command(["zfs", "clone", *_options(wanted), origin, name])
        with explained("clone", name):
            lzc().lzc_clone(name.encode(), origin.encode(), props=_encoded(wanted))

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

    @contextlib.contextmanager
    def mounted(self, name: str, where: Path, *, readonly: bool = False) -> Iterator[Path]:
        """The filesystem (mountpoint=legacy) or snapshot, mounted at `where` while the block runs."""
        where.mkdir(parents=True, exist_ok=True)
        options = ["-o", "ro"] if readonly or "@" in name else []
        output(["mount", "-t", "zfs", *options, name, str(where)], log=self.log)
        try:
            yield where
        finally:
            unmount(where, log=self.log)

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


def unmount(where: Path, *, log: BuildLog = SILENT) -> None:
    """Unmounts; what still holds the place for a moment is waited for, what holds it longer is detached lazily."""
    _unmount(where, log)
    with contextlib.suppress(OSError):
        where.rmdir()


@retry(
    retry=retry_if_exception(lambda error: isinstance(error, GoldspawnError) and "busy" in str(error).lower()),
    wait=wait_exponential(multiplier=0.1, max=1),
    stop=stop_after_delay(20),
    reraise=True,
)
def _unmount(where: Path, log: BuildLog) -> None:
    output(["umount", str(where)], log=log)


def mounts_of(base: str) -> list[Path]:
    """Where datasets at or below `base`, and their snapshots, are mounted; the latest mount first."""
    return [where for source, where in _mounts() if source == base or source.startswith((base + "/", base + "@"))]


def dataset_at(where: Path) -> str:
    """The dataset or snapshot that is mounted at a place. Raises `LookupError` where none is."""
    for source, place in _mounts():
        if place == where:
            return source
    raise LookupError(f"no dataset is mounted at {where}")


def _mounts() -> list[tuple[str, Path]]:
    """What is mounted of ZFS, and where; the latest mount first."""
    lines = [line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [(line[0], Path(line[1].encode().decode("unicode_escape"))) for line in lines if line[2] == "zfs"][::-1]


def lzc() -> ModuleType:
    """The module libzfs_core. Raises `PlaceError` if this machine has none."""
    try:
        import libzfs_core  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise PlaceError(
            "the Python module libzfs_core (pyzfs) cannot be imported",
            hint="it belongs to the system's OpenZFS: apt install python3-pyzfs "
            "(and a virtual environment with --system-site-packages)",
        ) from error
    module: ModuleType = libzfs_core
    return module


@contextlib.contextmanager
def explained(act: str, name: str) -> Iterator[None]:
    """Turns what libzfs_core raises in the block into a `ZfsError` about `zfs ACT NAME`."""
    from libzfs_core.exceptions import MultipleOperationsFailure, ZFSError

    try:
        yield
    except MultipleOperationsFailure as error:
        reasons = "; ".join(sorted({f"{type(cause).__name__}: {cause}" for cause in error.errors})) or str(error)
        raise ZfsError(f"zfs {act} {name}: {reasons}", hint=_hint(reasons)) from error
    except ZFSError as error:
        reason = f"{type(error).__name__}: {error}"
        raise ZfsError(f"zfs {act} {name}: {reason}", hint=_hint(reason)) from error


def _hint(reason: str) -> str | None:
    return ROOM if "NoSpace" in reason or "QuotaExceeded" in reason else None


@contextlib.contextmanager
def room_explained() -> Iterator[None]:
    """Gives a command that writes into a dataset, and fails since there is no room, the hint that says so."""
    try:
        yield
    except CommandFailed as error:
        if any(text in error.tail for text in FULL):
            error.hint = ROOM
        raise


def _prefixed(marks: Mapping[str, str]) -> dict[str, str]:
    return {PREFIX + key: value for key, value in marks.items()}


def _encoded(properties: Mapping[str, str]) -> dict[bytes, bytes | int]:
    return {key.encode(): _value(key, value) for key, value in properties.items()}


_INDEX: Mapping[str, Mapping[str, int]] = {
    "atime": {"off": 0, "on": 1},
    "canmount": {"off": 0, "on": 1, "noauto": 2},
    "acltype": {"off": 0, "posix": 1},
    "xattr": {"off": 0, "on": 1, "sa": 2},
    "readonly": {"off": 0, "on": 1},
    "sync": {"standard": 0, "always": 1, "disabled": 2},
    "compression": {"on": 1, "off": 2, "lz4": 15, "zstd": 16, "gzip": 10},
}
"""What libzfs_core wants as an integer: the values of index properties as they stand on disk, and so never change."""


def _value(key: str, value: str) -> bytes | int:
    if key == "compression" and (match := re.fullmatch(r"(gzip|zstd)-(\d+)", value)):
        level = int(match[2])
        # gzip-1 … gzip-9 have values of their own (5 … 13); a level of zstd stands above the seven bits of the method.
        return 4 + level if match[1] == "gzip" else _INDEX["compression"]["zstd"] | level << 7
    if key in _INDEX:
        return _INDEX[key][value]
    if key in ("quota", "refquota"):
        return int(value)
    return value.encode()


def _options(properties: Mapping[str, str]) -> list[str]:
    return [word for key, value in properties.items() for word in ("-o", f"{key}={value}")]
