"""Checking an artifact before anybody receives it.

`zfs recv` finds damage only after it has begun to write, and `zstream dump` ends with status 0 on a truncated stream
and on a flipped bit (facts/zfs.md). The manifest's size and digest find both, in one pass over the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.artifact import index
from pipeline.artifact.index import Stream
from pipeline.artifact.manifest import FILE, Manifest, load
from pipeline.artifact.receive import SUMS, sums
from pipeline.artifact.room import size
from pipeline.artifact.stream import HEADER_BYTES, header
from pipeline.errors import CheckFailed, InputError

_BLOCK = 1 << 20


def check(folder: Path) -> Manifest:
    """Compares all streams in `folder` with its manifest and its index; returns the manifest if all is well.

    Raises `InputError` if there is no manifest, or a broken one, and `CheckFailed`, in one line, if a stream is
    missing, cut off, changed, or another one.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no directory", hint="name an artifact's folder, e.g. artifacts/web1")
    manifest = load(folder)
    for stream in streams(folder, manifest):
        path = folder / stream.file
        try:
            _check_stream(path, stream)
            _check_sums(folder / SUMS, stream)
        except FileNotFoundError as error:
            others = ", ".join(sorted(other.name for other in folder.glob("*.zfs") if other.name != stream.file))
            raise CheckFailed(
                f"{path} is missing" + (f": {FILE} is about that file, and not about {others}" if others else "")
            ) from error
        except OSError as error:
            raise CheckFailed(f"{error.filename or path} cannot be read: {error.strerror}") from error
    return manifest


def current(folder: Path, guid: str) -> set[str] | None:
    """The guids from which the deltas in `folder` start, if its artifact is of the snapshot with this guid; else None.

    Goes by the manifest and the sizes of its streams: quick, and no proof that they are what they were. The manifest is
    not validated, which takes longer than all else that is done for an image that has not changed.
    """
    try:
        told = json.loads((folder / FILE).read_bytes())
        streams = [told["stream"], *told["deltas"]]
        whole = all((folder / one["file"]).stat().st_size == one["size"] for one in streams)
        starts = {str(one["from"]["guid"]) for one in told["deltas"]}
        same = told["snapshot"]["guid"] == guid
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return starts if whole and same else None


def streams(folder: Path, manifest: Manifest) -> Iterator[Stream]:
    """The streams that must be there, the full one first: those of the manifest, and what else the index names.

    Raises `CheckFailed`, after those of the manifest, if the index does not name them.
    """
    own = index.streams(manifest)
    yield from own
    if (folder / index.FILE).exists():  # else made before there were any
        listed = index.load(folder).streams
        for stream in own:
            if stream not in listed:
                raise CheckFailed(f"{folder / index.FILE} and {FILE} disagree about {stream.file}")
        yield from (stream for stream in listed if stream not in own)


def _check_stream(path: Path, expected: Stream) -> None:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        there = path.stat().st_size
        beginning = file.read(HEADER_BYTES)
        if there >= HEADER_BYTES:
            try:
                told = header(beginning)
            except InputError as error:
                raise CheckFailed(f"{path} is damaged: {error}") from error
            if told.guid != int(expected.guid):
                raise CheckFailed(
                    f"{path} is the stream of another snapshot: guid {told.guid}, {FILE} says {expected.guid}"
                )
            if told.from_guid != int(expected.from_guid or 0):
                raise CheckFailed(
                    f"{path} starts from another snapshot: guid {told.from_guid}, {FILE} says {expected.from_guid or 0}"
                )
        if there < expected.size:
            raise CheckFailed(f"{path} is {expected.size - there} bytes short: the copy is incomplete")
        if there > expected.size:
            raise CheckFailed(f"{path} is {there - expected.size} bytes too long: it is not the file of {FILE}")
        digest.update(beginning)
        buffer = memoryview(bytearray(_BLOCK))
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    if digest.hexdigest() != expected.sha256:
        raise CheckFailed(
            f"{path} is damaged: its SHA-256 is {digest.hexdigest()}, {FILE} says {expected.sha256}; do not receive it"
        )


def _check_sums(path: Path, stream: Stream) -> None:
    if path.exists() and sums([stream]) not in path.read_text(encoding="utf-8", errors="replace"):
        raise CheckFailed(f"{path} and {FILE} disagree about {stream.file}")


def summary(manifest: Manifest) -> str:
    """What a manifest says, in a few lines for people."""
    results = [check.result for check in manifest.checks]
    seconds = sum(check.seconds for check in manifest.checks)
    counts = ", ".join(f"{results.count(result)} {result}" for result in sorted(set(results))) or "none"
    where = manifest.place.kind + (f" ({manifest.place.accelerator})" if manifest.place.accelerator != "none" else "")
    versions = manifest.versions
    rows = (
        ("image", f"{manifest.image} {manifest.version}"),
        ("snapshot", f"{manifest.snapshot.name}, guid {manifest.snapshot.guid}"),
        ("stream", f"{manifest.stream.file}, {size(manifest.stream.size)}"),
        ("sha256", manifest.stream.sha256),
        *(("delta", f"{one.file}, {size(one.size)}, from {one.origin.version}") for one in manifest.deltas),
        ("needs", ", ".join(manifest.stream.features) or "no pool features"),
        ("checks", f"{counts}, in {seconds:.0f} s"),
        ("tree", f"{manifest.tree.entries} entries, {size(manifest.tree.bytes)}, {manifest.tree.sha256}"),
        ("packages", str(len(manifest.packages))),
        (
            "built with",
            f"goldspawn {versions.goldspawn}, OpenZFS {versions.openzfs}, systemd {versions.systemd}, {where}",
        ),
        ("receive", manifest.receive),
    )
    return "\n".join(f"{name:<11}{text}" for name, text in rows)
