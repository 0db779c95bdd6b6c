"""The datasets of one image: what is there, what of it still holds, and how a tree becomes candidate and golden.

`reuse` decides from a listing alone; `Workspace` acts. ZFS is the one store of state: every snapshot of ours says in
its user properties which stage it ends, from which inputs, and in which state the world was from which its packages
came.

    BASE/bootstrap/KEY-TIME@tree     a layer: a root file system as the distribution leaves it; a clone of that, into
                                     which Gentoo's sets are merged; and a clone of either with the image's packages
    BASE/work/IMAGE[@candidate]      the image's tree, a clone of the last layer; sealed when the snapshot is there
    BASE/golden/IMAGE@VERSION        the tree of a verified candidate, grafted onto the version before (see `lineage`)
    BASE/boot/MACHINE                a clone of a candidate that boots
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline import throwaway
from pipeline.errors import CommandFailed, PlaceError
from pipeline.image import Image
from pipeline.lineage import versions
from pipeline.lineage.listings import Listings
from pipeline.locks import image_lock, layer_lock, locked
from pipeline.place import Place
from pipeline.reuse.inputs import Keys
from pipeline.reuse.plan import LAYERS, Policy, Start, ago, newest, plan, reads_mark, times_of
from pipeline.reuse.world import Source, as_text, moved
from pipeline.throwaway import OWNER, machine_name
from pipeline.zfs import Entry, Zfs, ZfsError


@dataclass
class Filling:
    """A layer that is being made: its mounted `tree`, and `marks` for the snapshot that will end it.

    `world` is what its packages came from, as far as the tree's own package manager does not know that; `current` when
    that was last looked at (Unix time, seconds), where it is not right now.
    """

    tree: Path
    marks: dict[str, str] = field(default_factory=dict)
    world: tuple[Source, ...] = ()
    current: float | None = None


class Workspace:
    """The datasets of one image, opened and locked by `open_workspace`.

    `snapshots` has what each stage left that holds: the one from which this build starts, and those made since
    `opened` (Unix time, seconds).
    """

    def __init__(
        self, image: Image, place: Place, keys: Keys, zfs: Zfs, start: Start, opened: int, locks: contextlib.ExitStack
    ):
        self.image = image
        self.place = place
        self.keys = keys
        self.zfs = zfs
        self.start = start
        self.snapshots = {start.stage: start.snapshot} if start.stage else {}
        self._opened = opened
        self._marks: dict[str, Mapping[str, str]] = {}
        self._locks = locks
        self._base = ""
        self._aside: list[str] = []

    @property
    def tree(self) -> str:
        """The dataset in which the image's tree is made."""
        return f"{self.place.layout.work}/{self.image.name}"

    @property
    def candidate(self) -> str:
        """The sealed snapshot, "" before there is one."""
        return self.snapshots.get("candidate", "")

    @property
    def layer(self) -> str:
        """The last layer that there is, on which the next stage stands, or the base's candidate; "" for neither."""
        return next((self.snapshots[stage] for stage in reversed(LAYERS) if stage in self.snapshots), self._base)

    def stand_on(self, snapshot: str, told: Mapping[str, str]) -> None:
        """Takes the candidate of another image for what this one is built on, and holds it until this is closed.

        `told` is what that snapshot says of itself.
        """
        self._locks.enter_context(self.zfs.held(snapshot, f"goldspawn-base-{os.getpid()}-{self.image.name}"))
        self._base = snapshot
        self._marks[snapshot] = told

    def reused(self, stage: str) -> str:
        """How old the work of a stage is that needs not be done, in words; "" where it has to be done."""
        if not self.start.holds(stage):
            return ""
        return f"reused (from {ago(time.time() - self.start.times.get(stage, self.start.made))})"

    def why(self, stage: str) -> str:
        """Why a stage is made anew, as a note behind what was made."""
        reason = self.start.why.get(stage, "")
        return f"; {reason}" if reason else ""

    @contextlib.contextmanager
    def filling(self, stage: str, *, anew: bool = False) -> Iterator[Filling]:
        """A new layer, mounted: a clone of the one below, or an empty dataset for the first one and with `anew`.

        When the block ends well it is kept as what ends `stage`.
        """
        key, below = self.keys.of(stage), self.layer
        dataset = f"{self.place.layout.bootstraps}/{key}-{int(time.time())}"
        properties = {"compression": self.image.artifact.compression}
        if anew or not below:
            self.zfs.create(dataset, properties=properties, marks=OWNER)
        else:
            self.zfs.clone(below, dataset, properties=properties, marks=OWNER)
        try:
            with self.zfs.mounted(dataset, self.place.mountpoint(dataset)) as tree:
                filling = Filling(tree)
                yield filling
                settings = self.image.bootstrap
                own = settings.installed_world(tree) if stage == "packages" else settings.world(tree)
                world = (*own, *filling.world)
            marks = {"world": as_text(world)} if world else {}
            current = {} if filling.current is None else {"current": str(int(filling.current))}
            self._end(stage, f"{dataset}@tree", key, below, {**marks, **current, **filling.marks})
        except BaseException:
            self.zfs.destroy(dataset)
            raise

    def _end(self, stage: str, snapshot: str, key: str, below: str, marks: Mapping[str, str]) -> None:
        """Takes the snapshot that ends a stage. What is said of the world and of cycles is true of all above it."""
        told = self.told(below) if below else {}
        now = str(int(time.time()))
        looked = self.start.looked or not below
        times = {**times_of(told), told["stage"]: float(told["made"])} if told else {}
        if "candidate" in times:  # the base's: what it stands on is not this image's
            times = {"bootstrap": times["candidate"]}
        written = {
            "times": json.dumps(times),
            "world": as_text(()),
            **{name: told[name] for name in ("world", "cycles") if name in told},
            "current": now if looked else told.get("current", "0"),
            **marks,
            "stage": stage,
            "inputs": key,
            "made": now,
        }
        self.zfs.snapshot(snapshot, marks=written)
        self._marks[snapshot] = written
        self.snapshots[stage] = snapshot

    def told(self, snapshot: str) -> Mapping[str, str]:
        """What a snapshot of ours says of itself."""
        if snapshot not in self._marks:
            self._marks[snapshot] = self.zfs.marks(snapshot)
        return self._marks[snapshot]

    @contextlib.contextmanager
    def looking(self) -> Iterator[Path]:
        """A clone of the last layer, mounted, that is thrown away."""
        with throwaway.clone(self.layer, f"{machine_name(self.image.name)}.plan", self.place, self.zfs) as tree:
            yield tree

    @contextlib.contextmanager
    def fill_tree(self) -> Iterator[Path]:
        """A clone of the last layer, mounted; when the block ends well it is sealed as the candidate snapshot."""
        self._retire(self.tree)
        below = self.layer
        self.zfs.clone(below, self.tree, properties={"compression": self.image.artifact.compression}, marks=OWNER)
        with self.zfs.mounted(self.tree, self.place.mountpoint(self.tree)) as tree:
            yield tree
        self._end("candidate", f"{self.tree}@candidate", self.keys.candidate, below, {"reads": reads_mark(self.keys)})

    @contextlib.contextmanager
    def booting_clone(self) -> Iterator[tuple[str, Path]]:
        """A clone of the candidate, mounted, to boot from: (name of the machine, directory). Destroyed afterwards."""
        machine = machine_name(self.image.name)
        with throwaway.bootable(self.candidate, machine, self.image.boot, self.place, self.zfs) as directory:
            yield machine, directory

    def promote(self, listings: Listings, deltas: Collection[str] = ()) -> str:
        """Makes the candidate the image's golden snapshot, and returns that snapshot's name (see `lineage`).

        With `listings`, files that are as they were in the version before are not read again. Where of all `deltas` the
        one from the base alone is wanted, the versions follow the base: they begin anew on each of its versions.
        """
        golden = f"{self.place.layout.golden}/{self.image.name}"
        _refuse_foreign(self.zfs, golden)
        keep = self.image.artifact.keep
        self.snapshots["candidate"] = versions.advance(
            self.zfs, self.place, self.candidate, golden, keep=keep, listings=listings,
            on_base=set(deltas) == {"base"},
        )  # fmt: skip
        self._retire(self.tree)
        self._prune_bootstraps()
        return self.candidate

    def _retire(self, dataset: str) -> None:
        """Destroys a dataset of the image's; one on which another image stands moves out of the way instead."""
        try:
            self.zfs.destroy(dataset)
        except ZfsError:
            aside = f"{self.place.layout.bootstraps}/retired-{self.image.name}-{int(time.time())}"
            self.zfs.rename(dataset, aside)
            self._aside.append(aside)
            for entry in self.zfs.entries(aside, depth=1):
                if entry.kind == "snapshot":
                    self.zfs.mark(entry.name, {"stage": "retired"})

    def _prune_bootstraps(self) -> None:
        """Destroys layers of these inputs that a newer one has replaced and nothing stands on."""
        entries = self.zfs.entries(self.place.layout.bootstraps, depth=1)
        for stage in filter(self.keys.of, reversed(LAYERS)):  # a clone before its origin
            mine = f"{self.place.layout.bootstraps}/{self.keys.of(stage)}-"
            for dataset in sorted(entry.name for entry in entries if entry.name.startswith(mine))[:-1]:
                with contextlib.suppress(ZfsError):  # a clone stands on it
                    self.zfs.destroy(dataset)

    @contextlib.contextmanager
    def making(self, stage: str, wait: Callable[[str], None]) -> Iterator[bool]:
        """Keeps others from making the same layer at the same time; yields whether one of them has just made it."""
        key = self.keys.of(stage)
        with locked(layer_lock(key, self.place), f"{stage} {key}", wait):
            entries = self.zfs.entries(self.place.layout.bootstraps)
            found = newest(entries, stage, key, since=self._opened)
            if found is not None:
                self.snapshots[stage] = found.name
            yield found is not None

    def close(self) -> None:
        """Lets go of the image, and of what stood aside for a machine of this build's own, which is gone by now."""
        for dataset in self._aside:
            with contextlib.suppress(ZfsError):  # another image stands on it
                self.zfs.destroy(dataset)
        self._locks.close()


def open_workspace(
    image: Image, place: Place, keys: Keys, zfs: Zfs, *, policy: Policy, wait: Callable[[str], None]
) -> Workspace:
    """Locks an image's datasets, clears what a dead build of it left, and plans where to start.

    Where another run holds the image, waits for it after telling `wait` who that is. Raises `PlaceError` when a
    dataset that goldspawn did not create is in the way, and when it cannot be told whether the world has moved.
    """
    locks = contextlib.ExitStack()
    try:
        locks.enter_context(locked(image_lock(image.name, place), f"image {image.name}", wait))
        for dataset in (f"{place.layout.work}/{image.name}", f"{place.layout.golden}/{image.name}"):
            _refuse_foreign(zfs, dataset)
        opened = int(time.time())
        layers = _swept(image, place, zfs)
        lines = (f"{place.layout.golden}/{image.name}", f"{place.layout.work}/{image.name}")
        entries = [*(entry for name in lines for entry in zfs.entries(name)), *layers]
        start = plan(entries, keys, policy, now=time.time(), moved=moved)
        if start.stage in LAYERS:  # nobody prunes what this build stands on
            locks.enter_context(zfs.held(start.snapshot, f"goldspawn-{os.getpid()}-{image.name}"))
        if start.looked:
            with contextlib.suppress(CommandFailed):  # on a full pool: then --max-age looks once more
                zfs.mark(start.snapshot, {"current": str(int(time.time()))})
        return Workspace(image, place, keys, zfs, start, opened, locks)
    except BaseException:
        locks.close()
        raise


def _refuse_foreign(zfs: Zfs, dataset: str) -> None:
    if zfs.marks(dataset).get("owner") != "goldspawn" and zfs.exists(dataset):
        raise PlaceError(
            f"dataset {dataset} exists, and goldspawn did not create it: it is left alone",
            hint="rename it, or name another dataset for goldspawn",
        )


def _swept(image: Image, place: Place, zfs: Zfs) -> list[Entry]:
    """Clears machines, mounts and datasets that dead builds of this image left; its lock is held.

    Returns what there is of whole layers.
    """
    throwaway.sweep(image.name, place, zfs)
    tree = f"{place.layout.work}/{image.name}"
    throwaway.unmount_all(tree)
    layers = zfs.entries(place.layout.bootstraps)
    whole = _finished(layers)
    for entry in layers:
        if entry.kind == "filesystem" and entry.name not in whole and entry.name != place.layout.bootstraps:
            _clear_unfinished(entry.name, place, zfs)
    return [entry for entry in layers if entry.name.split("@")[0] in whole]


def _finished(layers: Sequence[Entry]) -> set[str]:
    """The datasets of these that hold a whole layer."""
    return {
        entry.name.split("@")[0] for entry in layers if entry.kind == "snapshot" and not entry.name.endswith("@trial")
    }


def _clear_unfinished(layer: str, place: Place, zfs: Zfs) -> None:
    """Destroys a layer that was not finished, if it still is not by the time that nobody is at it."""
    with contextlib.suppress(Timeout), FileLock(layer_lock(layer, place), blocking=False):
        if not _finished(zfs.entries(layer)):
            throwaway.unmount_all(layer)
            with contextlib.suppress(ZfsError):  # a trial of another image's stands on it, which clears that one
                zfs.destroy(layer)
