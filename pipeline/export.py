"""Export: a golden snapshot and all that is known of it become a folder in `artifacts/`, whole or not at all."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import shutil
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Literal, cast

from pipeline import changes
from pipeline.artifact import folder, manifest, packages, receive, shelf, stream, tree, walk
from pipeline.build import Build
from pipeline.command import output
from pipeline.errors import InputError
from pipeline.image import Image
from pipeline.lineage import deltas, sending
from pipeline.machine import settings
from pipeline.reuse.marks import unpacked
from pipeline.reuse.verified import Made
from pipeline.reuse.world import from_text

_MARK = "tree"
"""The user property of a snapshot in which the digest of its tree stands: it stays right, as snapshots never change."""


def export(build: Build, snapshot: str, checks: Sequence[Made]) -> manifest.Manifest:
    """Writes `artifacts/NAME/` from a golden snapshot: streams, manifest, index, settings, logs, and how to receive it.

    The deltas of earlier versions stay in it, as many as `artifact.keep` says. Why a delta that was asked for could not
    be made is left in `build.notes["deltas"]`. The snapshot is held meanwhile. Raises `PlaceError` when there is no
    room or no right to write; the artifact of an earlier build then stays as it is.
    """
    image, zfs = build.image, build.zfs
    artifacts = build.wishes.artifacts
    target = artifacts / image.name
    folder.sweep(artifacts, image.name)
    starts, lacking = deltas.wanted(build, snapshot, target)
    build.notes["deltas"] = "; ".join(map(str, lacking))
    for one in lacking:
        build.log.line(f"export: {one}")
    expected = sending.estimate(zfs, snapshot)
    folder.check_room(artifacts, expected)
    version = snapshot.split("@")[1]
    with zfs.held(snapshot, "goldspawn-export"), folder.publishing(target) as partial:
        told = zfs.marks(snapshot)
        file = f"{image.name}-{version}.zfs"
        with zfs.mounted(snapshot, build.place.mountpoint(snapshot), readonly=True) as root:
            listed = tuple(manifest.Package(*package) for package in packages.installed(root))
            with _digesting(build, snapshot, root, told.get(_MARK)) as contents:
                written = _full(build, snapshot, partial / file, expected)
                digest = contents()
        guid = zfs.get(snapshot, "guid")
        steps = _deltas(build, snapshot, starts, shelf.again(target, guid), target, partial)
        boot = _boot(build, target)
        kind, _, accelerator = build.place.name.partition(" (")
        here = manifest.Place(cast(Literal["native", "appliance"], kind), accelerator.rstrip(")") or "none")
        made = manifest.Manifest(
            image=image.name,
            version=version,
            time=datetime.now(UTC),
            input_hash=build.keys.candidate,
            snapshot=manifest.Snapshot(snapshot, guid),
            stream=manifest.Stream(file, written.size, written.sha256, written.features),
            versions=_versions(zfs.version()),
            place=here,
            checks=tuple(
                manifest.Check(check.name, cast(Literal["passed", "failed", "skipped"], check.result), check.seconds)
                for check in checks
            ),
            tree=manifest.Tree(digest.sha256, digest.entries, digest.bytes),
            packages=listed,
            receive=receive.command(image.name, file),
            cycles=unpacked(told.get("cycles")),
            deltas=steps,
            settings=_settings(image),
            boot=boot,
            changes=changes.since(target, listed, boot, version, here),
            world=_world(build, told.get("world", "")),
            verified=datetime.fromtimestamp(build.verdict.time if build.verdict is not None else time.time(), UTC),
        )
        made = shelf.finish(made, target, partial, image.artifact.keep)
        for name, text in settings.files(image):
            (partial / name).write_text(text)
        for name, said in (("journal.log", build.journal), ("boot.svg", build.boot.chart if build.boot else "")):
            _keep(name, said, target, partial)
        if build.log.path is not None:
            shutil.copyfile(build.log.path, partial / "build.log")
    return made


def _boot(build: Build, old: Path) -> manifest.Boot | None:
    """How the verified machine booted; where none was booted in this run, what the artifact before says."""
    if build.boot is not None:
        slowest = sorted(build.boot.units.items(), key=lambda pair: -pair[1])
        return manifest.Boot(round(build.boot.seconds, 3), dict(slowest))
    with contextlib.suppress(InputError):
        return manifest.load(old).boot
    return None


def _keep(name: str, said: str, old: Path, new: Path) -> None:
    """Writes what the verified machine said; where none was booted in this run, what it said before is kept."""
    if said or not (old / name).is_file():
        (new / name).write_text(said)
    else:
        shutil.copyfile(old / name, new / name)


def _settings(image: Image) -> manifest.Settings:
    """The names of the files for the host, and how what was verified differed."""
    nspawn, *drop_in = [name for name, _ in settings.files(image)]
    given = tuple(settings.shipped(image).credentials.values())
    return manifest.Settings(nspawn, next(iter(drop_in), None), settings.differences(image), given)


def _deltas(
    build: Build,
    snapshot: str,
    starts: Sequence[manifest.Origin],
    before: Sequence[manifest.Delta],
    old: Path,
    new: Path,
) -> tuple[manifest.Delta, ...]:
    """Writes the deltas to a snapshot that are wanted, but for those that an earlier export of it left (`before`)."""
    there = {delta.origin.guid for delta in before if shelf.take(delta, old, new)}
    written = []
    for start in starts:
        if start.guid not in there:
            build.log.line(f"export: delta from {start.image} {start.version}")
            written.append(
                deltas.write(build, snapshot, start, new, on_progress=lambda done: build.show(f"{done / 1e6:.1f} MB"))
            )
    return tuple(written)


def _full(build: Build, snapshot: str, target: Path, expected: int) -> stream.Written:
    """Writes the full stream, of which `expected` bytes are foreseen."""
    build.log.line(f"export: {target.name}, about {expected / 1e6:.0f} MB")
    return stream.write(
        lambda descriptor: sending.send(build.zfs, snapshot, descriptor),
        target,
        on_progress=lambda done: build.show(f"{done / 1e6:.0f} of about {expected / 1e6:.0f} MB"),
        expected=expected,
    )


@contextlib.contextmanager
def _digesting(build: Build, snapshot: str, root: Path, known: str | None) -> Iterator[Callable[[], tree.TreeDigest]]:
    """Takes the digest of a snapshot's tree, mounted at `root`, beside what the block does; yields what waits for it.

    `known` is what the snapshot says of itself, if the digest was taken before.
    """
    if known is not None:
        yield lambda: tree.TreeDigest.read(known)
        return
    over = threading.Event()
    before = walk.known_by(build.wishes.listings.below(build.zfs, snapshot))
    entries = takewhile(lambda _: not over.is_set(), walk.entries(root, known=before))

    def taken() -> tree.TreeDigest:
        build.show("digest of the file tree")
        whole = listed.result()
        made = tree.digest_of(whole)
        build.zfs.mark(snapshot, {_MARK: str(made)})
        build.wishes.listings.keep(build.zfs.get(snapshot, "guid"), whole)
        return made

    with ThreadPoolExecutor(1) as pool:
        listed = pool.submit(list, entries)
        try:
            yield taken
        finally:
            over.set()  # it ends at once, where the block was broken off


def _world(build: Build, text: str) -> manifest.World:
    looked = cast(Literal["frozen", "offline"], build.wishes.taken) if build.wishes.taken else None
    sources = from_text(text) or ()
    recent = "recent" if build.wishes.policy.max_age else "current"
    return manifest.World(
        looked or cast(Literal["current", "recent"], recent),
        tuple(manifest.Source(one.kind, one.uri, one.state) for one in sources),
    )


def _versions(openzfs: str) -> manifest.Versions:
    systemd = output(["systemctl", "--version"]).stdout.split()[1]
    return manifest.Versions(openzfs, systemd, _own_version(), platform.release())


def _own_version() -> str:
    try:
        return importlib.metadata.version("goldspawn")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
        return str(project["version"])
