"""Which deltas go beside a full stream: `wanted` decides, `write` makes them.

A delta is of use only to a host that has what it starts from. So the one from the previous version starts from the
newest that was exported, which is not always the newest that was golden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.artifact import receive, shelf, stream
from pipeline.artifact.manifest import Delta, Manifest, Origin
from pipeline.build import Build
from pipeline.lineage import sending
from pipeline.lineage.sending import Point
from pipeline.lineage.versions import base_of, is_version, told

KINDS: tuple[Literal["previous", "base"], ...] = ("previous", "base")


@dataclass(frozen=True)
class Missing:
    """A delta that cannot be made, since what, and why, in a user's words."""

    since: str
    why: str

    def __str__(self) -> str:
        return f"no delta from {self.since}: {self.why}"


PREVIOUS, BASE = "the previous version", "the base"


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
        return Missing(PREVIOUS, f"it begins anew, since {began}" if began else "this is the first one")
    lost = exported[-1]
    reason = f", since {began}" if began and not earlier else ""
    return Missing(PREVIOUS, f"this builder has lost {lost.version} (guid {lost.snapshot.guid}){reason}")


def base(found: str, names: Sequence[str], newest: str) -> tuple[str, Missing | None]:
    """Where the delta from the base starts ("" if there can be none), and what is lacking.

    `found` is the golden snapshot on which the image's versions stand ("" for none), `names` are the images that it is
    to stand on, the nearest first, `newest` is the newest version of the image that `found` is of. A host that has
    followed the base may have an earlier version of it as well: so a delta from that is of use, and not to all.
    """
    if not names:
        return "", Missing(BASE, "the image stands on no other (from)")
    if not found:
        return "", Missing(BASE, f"the {names[0]} that its versions stand on was not golden when they began")
    if found.rsplit("/", 1)[1].split("@")[0] not in names:
        return "", Missing(BASE, f"its versions stand on {told(found)}, and not on {names[0]}")
    if found != newest:
        return found, Missing(told(newest), f"its versions stand on {told(found)}")
    return found, None


def wanted(build: Build, snapshot: str, folder: Path) -> tuple[list[Origin], list[Missing]]:
    """From where deltas to a golden snapshot start, and those that were asked for and cannot be had."""
    zfs, image = build.zfs, build.image
    dataset = snapshot.split("@")[0]
    starts: list[Origin] = []
    lacking: list[Missing] = []
    for kind in KINDS:
        if kind not in build.deltas:
            continue
        if kind == "previous":
            began = zfs.marks(dataset).get("began", "")
            published = [made for made in shelf.manifests(folder).values() if made.image == image.name]
            found = previous(sending.points(zfs, dataset), snapshot, published, began=began)
            start, lost = (None, found) if isinstance(found, Missing) else (found, None)
        else:
            start, lost = _since_base(build, dataset)
        if lost is not None:
            lacking.append(lost)
        if start is not None:
            owner = start.dataset.rsplit("/", 1)[1]
            starts.append(Origin(kind, owner, start.version, start.guid, start.name.replace("#", "@")))
    return starts, lacking


def _since_base(build: Build, dataset: str) -> tuple[Point | None, Missing | None]:
    zfs = build.zfs
    found = base_of(zfs, dataset, build.place.layout.golden)
    line = sending.points(zfs, found.split("@")[0]) if found else []
    newest = [point.name for point in line if not point.bookmarked and is_version(point.version)]
    start, lost = base(found, [one.name for one in build.image.chain[1:]], newest[-1] if newest else found)
    return (Point(start, zfs.get(start, "guid")) if start else None), lost


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
