"""index.json: all streams of an image that lie in its folder, so that a host sees which of them it needs.

It is made of the manifests beside it and published with them in one step, to be served by any web server as it is.
These classes are the one description of the file; `docs/index.schema.json` is made from them
(`python -m pipeline.artifact schema index`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime
from pydantic.dataclasses import dataclass

from pipeline.artifact.document import STRICT, Document
from pipeline.artifact.manifest import Bytes, Guid, Manifest, Name, Sha256

FILE = "index.json"
SCHEMA: Literal[1] = 1
"""Grows when an old reader would misunderstand a new file."""


@dataclass(frozen=True, config=STRICT)
class Stream:
    """A stream: `guid` is the snapshot that it makes, `from_guid` the one that it starts from (none: it is full)."""

    kind: Literal["full", "previous", "base"]
    file: Name
    size: Bytes
    sha256: Sha256
    features: tuple[str, ...]
    guid: Guid
    from_guid: Guid | None = None
    from_image: Name | None = None
    from_version: str | None = None


@dataclass(frozen=True, config=STRICT)
class Version:
    """A version of the image, its manifest's file, and the streams that make it."""

    version: str
    time: AwareDatetime
    guid: Guid
    manifest: Name
    streams: tuple[Stream, ...]


@dataclass(frozen=True, config=STRICT)
class Index:
    """All versions of an image of which a stream is here, the oldest first; each stream is in the folder, whole."""

    image: Name
    newest: str
    versions: tuple[Version, ...]
    schema_version: Literal[1] = SCHEMA

    @property
    def streams(self) -> list[Stream]:
        return [stream for version in self.versions for stream in version.streams]

    def save(self, folder: Path) -> None:
        """Writes `index.json` into `folder`. Raises `PlaceError` if that cannot be done."""
        INDEX.save(self, folder / FILE)


INDEX = Document(Index, FILE, "Index of an image's artifacts", sparse=True)
load = INDEX.load
schema = INDEX.schema


def of(manifests: Mapping[str, Manifest], folder: Path) -> Index:
    """The index of a folder, from its manifests by their files' names; what is not in the folder is not in it."""
    ordered = sorted(manifests.items(), key=lambda pair: pair[1].version)
    versions = tuple(
        Version(
            version=made.version,
            time=made.time,
            guid=made.snapshot.guid,
            manifest=file,
            streams=tuple(stream for stream in streams(made) if _there(folder / stream.file, stream.size)),
        )
        for file, made in ordered
    )
    newest = ordered[-1][1]
    return Index(newest.image, newest.version, versions)


def streams(made: Manifest) -> list[Stream]:
    """The streams of a manifest as an index has them, the full one first."""
    guid, full = made.snapshot.guid, made.stream
    found = [Stream("full", full.file, full.size, full.sha256, full.features, guid)]
    for delta in made.deltas:
        start = delta.origin
        origin = (start.guid, start.image, start.version)
        found.append(Stream(start.kind, delta.file, delta.size, delta.sha256, delta.features, guid, *origin))
    return found


def _there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
