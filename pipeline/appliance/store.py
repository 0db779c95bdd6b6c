"""The cache: where built appliances, their saved states and the pool lie, and who may use them. Builds nothing.

<cache>/<key>/            a built appliance: kernel, initrd, root file system, ssh keys; complete by its name
<cache>/<key>/state-<…>/  a guest saved after its start, for one machine type, size and accelerator
<cache>/building-<…>/     what an unfinished build left; removed by the next one
<cache>/pool.img          the disk of the pool `goldspawn` (sparse)
<cache>/lock, holder      held while a guest runs or is built; the process that holds it
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.appliance import namespace
from pipeline.command import BuildLog

POOL_BYTES = 64 << 30
"""The virtual size of the pool's disk."""

_KEY = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Store:
    """A cache directory."""

    root: Path

    @property
    def pool(self) -> Path:
        return self.root / "pool.img"

    @property
    def console(self) -> Path:
        """What the last guest wrote to its serial line."""
        return self.root / "console.log"

    @property
    def holder(self) -> Path:
        return self.root / "holder"

    def appliance(self, key: str) -> Path:
        return self.root / key

    def appliances(self) -> list[Path]:
        """The built appliances, of whatever key."""
        if not self.root.is_dir():
            return []
        return sorted(path for path in self.root.iterdir() if _KEY.fullmatch(path.name))

    def leftovers(self) -> list[Path]:
        """What an interrupted build or save left. To be asked by the holder of the lock only."""
        return sorted({*self.root.glob("building-*"), *self.root.glob("*/saving-*"), *self.root.glob("stale-*")})

    def ensure_pool(self) -> None:
        """Makes the pool's disk, if there is none: a sparse file that nobody else may read. A small one grows."""
        with os.fdopen(os.open(self.pool, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            if os.fstat(file.fileno()).st_size < POOL_BYTES:
                file.truncate(POOL_BYTES)

    @contextlib.contextmanager
    def held(self, log: BuildLog) -> Iterator[None]:
        """Holds the cache, waiting as long as another process does; then clears what a killed one left."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(self.root / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.line(f"waiting for the appliance, held by process {self.held_by() or 'unknown'}")
            lock.acquire(poll_interval=0.2)
        try:
            self.holder.write_text(f"{os.getpid()}\n")
            for path in self.leftovers():
                namespace.remove(path)
            yield
        finally:
            self.holder.unlink(missing_ok=True)
            lock.release()

    def held_by(self) -> int | None:
        """The process that holds the cache, as far as it has said so."""
        with contextlib.suppress(OSError, ValueError):
            return int(self.holder.read_text())
        return None
