"""Datasets, snapshots and clones. Knows nothing of images; streams are in `pipeline.lineage.sending`.

What `libzfs_core` (pyzfs) can do goes through it; the rest, and pools, through the `zfs` and `zpool` commands. Each act
is logged as the command that would do it by hand.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tenacity import retry, retry_if_exception, stop_after_delay, wait_exponential

from pipeline.command import SILENT, BuildLog, output, run
from pipeline.errors import PlaceError
from pipeline.zfs import reading
from pipeline.zfs.library import ROOM, ZfsError, encoded, explained, lzc
from pipeline.zfs.mounts import mounted
from pipeline.zfs.reading import PREFIX, Entry, Usage


class Zfs:
    """Operations on datasets, each written to `log`. Names are plain text: `pool/a/b`, `pool/a@snap`."""

    def __init__(self, log: BuildLog = SILENT) -> None:
        self.log = log

    def exists(self, name: str) -> bool:
        return reading.exists(name)

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

    def entries(self, name: str, *, depth: int | None = None) -> list[Entry]:
        """The dataset itself and all below it, snapshots included: see `reading.entries`."""
        return reading.entries(name, depth=depth)

    def marks(self, name: str) -> dict[str, str]:
        """Our user properties of one dataset or snapshot itself: see `reading.marks`."""
        return reading.marks(name)

    def usage(self, name: str) -> list[Usage]:
        """What the dataset and all below it use, and what stands on what: see `reading.usage`."""
        return reading.usage(name)

    def points(self, name: str) -> list[tuple[str, str]]:
        """Names and guids of the snapshots and bookmarks of a dataset itself: see `reading.points`."""
        return reading.points(name)

    def get(self, name: str, key: str) -> str:
        """The value of one native property in its parsable form: see `reading.value`."""
        return reading.value(name, key)

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
