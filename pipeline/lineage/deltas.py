"""Which deltas go beside a full stream: `wanted` decides, `write` makes them.

A delta is of use only to a host that has what it starts from. So the one from the previous version starts from the
newest that was exported, which is not always the newest that was golden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.artifact import receive, shelf, stream
from pipeline.artifact.manifest import Delta, Manifest, Origin
from pipeline.build import Build
from pipeline.lineage import sending
from pipeline.lineage.sending import Point
from pipeline.lineage.versions import is_version
from pipeline.zfs import Zfs

KINDS: tuple[Literal["previous", "base"], ...] = ("previous", "base")


@dataclass(frozen=True)
class Missing:
    """A delta that cannot be made, and why, in a user's words."""

    kind: str
    why: str

    def __str__(self) -> str:
        return f"no delta from the {'previous version' if self.kind == 'previous' else 'base'}: {self.why}"


def previous(line: Sequence[Point], snapshot: str, published: Sequence[Manifest], *, began: str) -> Point | Missing:
    """Where the delta from the previous version to `snapshot` starts.

    `line` holds the points of the golden dataset, the oldest first; `published` the manifests in the artifact's folder,
    the oldest first; `began` says why the line began, if it took another one's place.
    """
    names = [point.name for point in line]
    earlier = [point for point in line[: names.index(snapshot)] if is_version(point.version)]
    guid = line[names.index(snapshot)].guid
    exported = [made for made in published if made.snapshot.guid != guid]
    known = {made.snapshot.guid for made in exported}
    if found := [point for point in earlier if point.guid in known or not exported]:
        return found[-1]
    if not exported:
        return Missing("previous", f"it begins anew, since {began}" if began else "this is the first one")
    lost = exported[-1]
    reason = f", since {began}" if began and not earlier else ""
    return Missing("previous", f"this builder has lost {lost.version} (guid {lost.snapshot.guid}){reason}")


def base(origins: Iterable[str], golden: str) -> str | Missing:
    """The snapshot of another image that this one stands on.

    `origins` are the snapshot that its dataset is a clone of, that which this one's dataset is a clone of, and so on:
    between the two images there may be layers, which a delta takes in its stride.
    """
    found = next((origin for origin in origins if origin.startswith(f"{golden}/")), None)
    return found or Missing("base", "the image is not built on another one's golden snapshot")


def _origins(zfs: Zfs, dataset: str) -> Iterator[str]:
    while (origin := zfs.get(dataset, "origin")) not in ("", "-"):
        yield origin
        dataset = origin.split("@")[0]


def wanted(build: Build, snapshot: str, folder: Path) -> tuple[list[Origin], list[Missing]]:
    """From where deltas to a golden snapshot start, and those that were asked for and cannot be had."""
    zfs, image = build.zfs, build.image
    dataset = snapshot.split("@")[0]
    starts: list[Origin] = []
    lacking: list[Missing] = []
    for kind in KINDS:
        if kind not in (*image.artifact.deltas, *build.wishes.deltas):
            continue
        if kind == "previous":
            told = zfs.marks(dataset)
            published = [made for made in shelf.manifests(folder).values() if made.image == image.name]
            found = previous(sending.points(zfs, dataset), snapshot, published, began=told.get("began", ""))
        else:
            name = base(_origins(zfs, dataset), build.place.layout.golden)
            found = Point(name, zfs.get(name, "guid")) if isinstance(name, str) else name
        if isinstance(found, Missing):
            lacking.append(found)
        else:
            owner = found.dataset.rsplit("/", 1)[1]
            starts.append(Origin(kind, owner, found.version, found.guid, found.name.replace("#", "@")))
    return starts, lacking


def write(
    build: Build, snapshot: str, start: Origin, folder: Path, *, on_progress: Callable[[int], None] | None = None
) -> Delta:
    """Writes the delta from `start` to a golden snapshot into `folder`."""
    zfs, image = build.zfs, build.image.name
    dataset, version = snapshot.split("@")
    if start.kind == "previous":
        file = f"{image}-{start.version}-{version}.zfs"
        command = receive.onward(image, file)
    else:
        file = f"{image}-{version}-on-{start.image}-{start.version}.zfs"
        command = receive.command(image, file)
    origin = next((point.name for point in sending.points(zfs, dataset) if point.guid == start.guid), start.snapshot)
    written = stream.write(
        lambda descriptor: sending.send(zfs, snapshot, descriptor, origin=origin),
        folder / file,
        on_progress=on_progress,
    )
    return Delta(
        file=file,
        size=written.size,
        sha256=written.sha256,
        features=written.features,
        origin=start,
        receive=command,
        beside=receive.beside(image, file, start.version, version) if start.kind == "previous" else None,
    )
