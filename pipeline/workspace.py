"""The datasets of one image: what is there, what of it still holds, and how a tree becomes candidate and golden.

`plan` decides from a listing alone; `Workspace` acts. ZFS is the one store of state: every snapshot of ours says in
its user properties which stage it ends, from which inputs, and when its packages were fetched.

    BASE/bootstrap/KEY-TIME@tree     a root file system as the distribution leaves it; for Gentoo a clone of that as
                                     well, into which the sets are merged
    BASE/work/IMAGE[@candidate]      the image's tree, a clone of that; sealed when the snapshot is there
    BASE/golden/IMAGE@VERSION        the tree of a verified candidate, grafted onto the version before (see `lineage`)
    BASE/boot/MACHINE                a clone of a candidate that boots
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline import lineage
from pipeline.errors import PlaceError
from pipeline.image import Image
from pipeline.inputs import Keys
from pipeline.machine.unit import stop_machines_of
from pipeline.place import RUN, Place
from pipeline.zfs import Entry, Zfs, ZfsError, mounts_of, unmount

OWNER = {"owner": "goldspawn"}


@dataclass(frozen=True)
class Start:
    """Where a build starts: `stage` is the last one whose work is valid ("" for none), `snapshot` what it left."""

    stage: str
    snapshot: str = ""
    age: float = 0.0

    def __str__(self) -> str:
        if not self.stage:
            return "starts from nothing"
        return f"starts after {self.stage}, made {_ago(self.age)}"


def plan(entries: Sequence[Entry], keys: Keys, *, now: float, max_age: float) -> Start:
    """The newest stage whose inputs are those of `keys`, and whose packages are at most `max_age` seconds old."""
    for stage, key in (("candidate", keys.candidate), ("cycles", keys.cycles), ("bootstrap", keys.bootstrap)):
        if key and (found := _newest(entries, stage, key, now=now, max_age=max_age)).stage:
            return found
    return Start("")


def _newest(entries: Sequence[Entry], stage: str, key: str, *, now: float, max_age: float) -> Start:
    """The youngest snapshot that ends `stage` with these inputs, or none."""
    ages = [
        (now - float(entry.properties.get("made", "0")), entry.name)
        for entry in entries
        if entry.kind == "snapshot" and entry.properties.get("stage") == stage and entry.properties.get("inputs") == key
    ]
    valid = sorted(pair for pair in ages if pair[0] < max_age)
    return Start(stage, valid[0][1], valid[0][0]) if valid else Start("")


class Workspace:
    """The datasets of one image, opened and locked by `open_workspace`."""

    def __init__(self, image: Image, place: Place, keys: Keys, zfs: Zfs, start: Start, locks: contextlib.ExitStack):
        self.image = image
        self.place = place
        self.keys = keys
        self.zfs = zfs
        self.start = start
        self.candidate = start.snapshot if start.stage == "candidate" else ""
        self.merged = start.snapshot if start.stage == "cycles" else ""
        self.bootstrap = start.snapshot if start.stage == "bootstrap" else ""
        self._locks = locks

    @property
    def tree(self) -> str:
        """The dataset in which the image's tree is made."""
        return f"{self.place.layout.work}/{self.image.name}"

    @contextlib.contextmanager
    def fill_bootstrap(self) -> Iterator[Path]:
        """A new dataset for a root file system, mounted; when the block ends well it is kept as a bootstrap."""
        made = int(time.time())
        with self._fill("bootstrap", self.keys.bootstrap, made, made, origin=None) as tree:
            yield tree
        self.bootstrap = self._kept(self.keys.bootstrap, made)

    @contextlib.contextmanager
    def fill_merged(self, *, anew: bool = False) -> Iterator[Path]:
        """A clone of the bootstrap, mounted, for sets to be merged into; kept as `fill_bootstrap` keeps its own.

        With `anew` it is an empty dataset instead, for a tree in which that was done elsewhere.
        """
        made = int(time.time())
        age = int(self._told(self.bootstrap)["made"])
        origin = None if anew else self.bootstrap
        with self._fill("cycles", self.keys.cycles, made, age, origin=origin) as tree:
            yield tree
        self.merged = self._kept(self.keys.cycles, made)

    @contextlib.contextmanager
    def looking(self) -> Iterator[Path]:
        """A clone of the bootstrap, mounted, that is thrown away."""
        dataset = f"{self.place.layout.boots}/{machine_name(self.image.name)}.plan"
        self.zfs.clone(self.bootstrap, dataset, marks=of_this_process())
        try:
            with self.zfs.mounted(dataset, self.place.mountpoint(dataset)) as tree:
                yield tree
        finally:
            self.zfs.destroy(dataset)

    @contextlib.contextmanager
    def _fill(self, stage: str, key: str, now: int, made: int, *, origin: str | None) -> Iterator[Path]:
        """A dataset BOOTSTRAPS/KEY-NOW, new or a clone, mounted; then a snapshot of it that ends `stage`.

        `made` is when its packages were fetched: what a clone holds is as old as its origin.
        """
        dataset = f"{self.place.layout.bootstraps}/{key}-{now}"
        properties = {"compression": self.image.artifact.compression}
        if origin is None:
            self.zfs.create(dataset, properties=properties, marks=OWNER)
        else:
            self.zfs.clone(origin, dataset, properties=properties, marks=OWNER)
        try:
            with self.zfs.mounted(dataset, self.place.mountpoint(dataset)) as tree:
                yield tree
            self.zfs.snapshot(f"{dataset}@tree", marks={"stage": stage, "inputs": key, "made": str(made)})
        except BaseException:
            self.zfs.destroy(dataset)
            raise

    def _kept(self, key: str, now: int) -> str:
        return f"{self.place.layout.bootstraps}/{key}-{now}@tree"

    def _told(self, snapshot: str) -> Mapping[str, str]:
        """What a snapshot of ours says of itself: when its packages were fetched (`made`, Unix time), and more."""
        return next(entry for entry in self.zfs.entries(snapshot) if entry.name == snapshot).properties

    @contextlib.contextmanager
    def fill_tree(self) -> Iterator[Path]:
        """A clone of the bootstrap, mounted; when the block ends well it is sealed as the candidate snapshot."""
        self.zfs.destroy(self.tree)
        origin = self.merged or self.bootstrap
        told = self._told(origin)
        self.zfs.clone(origin, self.tree, properties={"compression": self.image.artifact.compression}, marks=OWNER)
        with self.zfs.mounted(self.tree, self.place.mountpoint(self.tree)) as tree:
            yield tree
        marks = {**told, "stage": "candidate", "inputs": self.keys.candidate}
        self.zfs.snapshot(f"{self.tree}@candidate", marks=marks)
        self.candidate = f"{self.tree}@candidate"

    @contextlib.contextmanager
    def booting_clone(self) -> Iterator[tuple[str, Path]]:
        """A clone of the candidate, mounted, to boot from: (name of the machine, directory). Destroyed afterwards."""
        machine = machine_name(self.image.name)
        dataset = f"{self.place.layout.boots}/{machine}"
        self.zfs.clone(self.candidate, dataset, marks=of_this_process())
        try:
            with self.zfs.mounted(dataset, self.place.mountpoint(dataset)) as directory:
                yield machine, directory
        finally:
            self.zfs.destroy(dataset)

    def promote(self) -> str:
        """Makes the candidate the image's golden snapshot, and returns that snapshot's name (see `lineage`)."""
        golden = f"{self.place.layout.golden}/{self.image.name}"
        _refuse_foreign(self.zfs, golden)
        self.candidate = lineage.advance(self.zfs, self.place, self.candidate, golden, keep=self.image.artifact.keep)
        with contextlib.suppress(ZfsError):  # another image's tree may stand on it
            self.zfs.destroy(self.tree)
        self._prune_bootstraps()
        return self.candidate

    def _prune_bootstraps(self) -> None:
        """Destroys bootstraps of these inputs that a newer one has replaced and nothing stands on."""
        entries = self.zfs.entries(self.place.layout.bootstraps, depth=1)
        for key in filter(None, (self.keys.cycles, self.keys.bootstrap)):  # a clone before its origin
            mine = f"{self.place.layout.bootstraps}/{key}-"
            for dataset in sorted(entry.name for entry in entries if entry.name.startswith(mine))[:-1]:
                with contextlib.suppress(ZfsError):  # a clone stands on it
                    self.zfs.destroy(dataset)

    @contextlib.contextmanager
    def bootstrapping(self, wait: Callable[[str], None]) -> Iterator[None]:
        """Keeps others from making the same bootstrap at the same time; looks again whether they just did."""
        with self._making("bootstrap", self.keys.bootstrap, 300.0, wait) as found:
            self.bootstrap = self.bootstrap or found
            yield

    @contextlib.contextmanager
    def merging(self, wait: Callable[[str], None]) -> Iterator[None]:
        """As `bootstrapping`, for the sets that are merged into a clone of it."""
        age = time.time() - float(self._told(self.bootstrap)["made"]) if self.bootstrap else 300.0
        with self._making("cycles", self.keys.cycles, age + 1.0, wait) as found:
            self.merged = self.merged or found
            yield

    @contextlib.contextmanager
    def _making(self, stage: str, key: str, max_age: float, wait: Callable[[str], None]) -> Iterator[str]:
        """Holds the lock of a stage's result; yields the one that another run made meanwhile, or ""."""
        with locked(self.place.lock(f"bootstrap-{key}"), f"{stage} {key}", wait):
            entries = self.zfs.entries(self.place.layout.bootstraps)
            yield _newest(entries, stage, key, now=time.time(), max_age=max_age).snapshot

    def close(self) -> None:
        self._locks.close()


def of_this_process() -> dict[str, str]:
    """The marks of a dataset that nobody needs when this process is gone."""
    return {**OWNER, "process": _identity(os.getpid())}


def _identity(pid: int) -> str:
    """A process, told from all others that had its number: an appliance, restored from one state, gives them again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return f"{pid}:{stat.rpartition(')')[2].split()[19]}"  # starttime, of proc(5)


def machine_name(image: str) -> str:
    """The name of the machine that is verified: the image's and the process's, so that it clashes with no other."""
    suffix = f"-gs{os.getpid()}"
    return image[: 64 - len(suffix)] + suffix


def open_workspace(
    image: Image, place: Place, keys: Keys, zfs: Zfs, *, max_age: float, wait: Callable[[str], None]
) -> Workspace:
    """Locks an image's datasets, clears what a dead build of it left, and plans where to start.

    Where another run holds the image, waits for it after telling `wait` who that is. Raises `PlaceError` when a
    dataset that goldspawn did not create is in the way.
    """
    locks = contextlib.ExitStack()
    try:
        locks.enter_context(locked(place.lock(place.layout.work + "/" + image.name), f"image {image.name}", wait))
        for dataset in (f"{place.layout.work}/{image.name}", f"{place.layout.golden}/{image.name}"):
            _refuse_foreign(zfs, dataset)
        _sweep(image, place, zfs)
        entries = [entry for name in _origins(place, image) for entry in zfs.entries(name)]
        start = plan(entries, keys, now=time.time(), max_age=max_age)
        return Workspace(image, place, keys, zfs, start, locks)
    except BaseException:
        locks.close()
        raise


def _origins(place: Place, image: Image) -> tuple[str, ...]:
    layout = place.layout
    return f"{layout.golden}/{image.name}", f"{layout.work}/{image.name}", layout.bootstraps


def _refuse_foreign(zfs: Zfs, dataset: str) -> None:
    entries = zfs.entries(dataset, depth=0)
    if entries and entries[0].properties.get("owner") != "goldspawn":
        raise PlaceError(
            f"dataset {dataset} exists, and goldspawn did not create it: it is left alone",
            hint="rename it, or name another dataset for goldspawn",
        )


def _sweep(image: Image, place: Place, zfs: Zfs) -> None:
    """Clears machines, mounts and datasets that dead builds of this image left; its lock is held.

    Clones say which process made them, so those of living processes (other tests of ours that boot clones of this
    image) are left alone.
    """
    stop_prefix = f"{image.name}-gs"
    for entry in zfs.entries(place.layout.boots, depth=1):
        name = entry.name.rsplit("/", 1)[1]
        process = entry.properties.get("process", "")
        alive = process != "" and _identity(int(process.partition(":")[0])) == process
        if name.startswith(stop_prefix) and entry.kind == "filesystem" and not alive:
            stop_machines_of(name, zfs.log)
            _unmount_all(entry.name)
            zfs.destroy(entry.name)
    tree = f"{place.layout.work}/{image.name}"
    _unmount_all(tree)
    bootstraps = zfs.entries(place.layout.bootstraps)
    finished = {entry.name.split("@")[0] for entry in bootstraps if entry.kind == "snapshot"}
    for entry in bootstraps:
        dead = entry.kind == "filesystem" and entry.name not in finished and entry.name != place.layout.bootstraps
        if dead and _unlocked(place.lock(f"bootstrap-{entry.name.rsplit('/', 1)[1].split('-')[0]}")):
            _unmount_all(entry.name)
            zfs.destroy(entry.name)
    for folder in (RUN / "mnt").glob("*"):
        if not _alive(folder.name):
            for path in sorted(folder.rglob("*"), reverse=True):
                if not path.is_mount():
                    with contextlib.suppress(OSError):
                        path.rmdir()
            with contextlib.suppress(OSError):
                folder.rmdir()


def _unmount_all(dataset: str) -> None:
    for where in mounts_of(dataset):
        unmount(where)


def _alive(pid: str) -> bool:
    return pid.isdigit() and Path(f"/proc/{pid}").exists()


def _unlocked(lock: Path) -> bool:
    try:
        with FileLock(lock, blocking=False):
            return True
    except Timeout:
        return False


@contextlib.contextmanager
def locked(path: Path, what: str, wait: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock file; the kernel lets go of it when this process ends, however it ends. Beside it stands who."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = path.with_suffix(".pid")
        wait(f"{what} is held by process {holder.read_text().strip() if holder.exists() else '?'}; waiting for it")
        lock.acquire()
    try:
        path.with_suffix(".pid").write_text(f"{os.getpid()}\n")
        yield
    finally:
        lock.release()


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"
