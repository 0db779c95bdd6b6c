"""Where datasets and snapshots are mounted: by mount(8), since libzfs_core does not mount."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tenacity import retry, retry_if_exception, stop_after_delay, wait_exponential

from pipeline.command import SILENT, BuildLog, output
from pipeline.errors import GoldspawnError


@contextlib.contextmanager
def mounted(name: str, where: Path, *, readonly: bool = False, log: BuildLog = SILENT) -> Iterator[Path]:
    """The filesystem (mountpoint=legacy) or snapshot, mounted at `where` while the block runs."""
    where.mkdir(parents=True, exist_ok=True)
    options = ["-o", "ro"] if readonly or "@" in name else []
    output(["mount", "-t", "zfs", *options, name, str(where)], log=log)
    try:
        yield where
    finally:
        unmount(where, log=log)


def unmount(where: Path, *, log: BuildLog = SILENT) -> None:
    """Unmounts; what still holds the place is waited for, for 20 seconds: then it is an error."""
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
