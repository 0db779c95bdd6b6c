"""index.json: all streams of an image that lie in its folder, so that a host sees which of them it needs.

It is made of the manifests beside it and published with them in one step, to be served by any web server as it is.
These classes are the one description of the file; `docs/index.schema.json` is made from them
(`python -m pipeline.artifact schema index`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from pipeline.artifact.manifest import Bytes, Guid, Manifest, Name, Sha256
from pipeline.artifact.room import refused
from pipeline.errors import InputError

FILE = "index.json"
SCHEMA: Literal[1] = 1
"""Grows when an old reader would misunderstand a new file."""

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
class Version:
    """A version of the image, its manifest's file, and the streams that make it."""

    version: str
    time: AwareDatetime
    guid: Guid
    manifest: Name
    streams: tuple[Stream, ...]


@dataclass(frozen=True, config=_STRICT)
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
        data = _INDEX.dump_python(self, mode="json", exclude_none=True)
        order = {"schema_version": data.pop("schema_version"), **data}
        try:
            (folder / FILE).write_text(json.dumps(order, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise refused(folder / FILE, error) from error


_INDEX = TypeAdapter(Index)


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


def load(path: Path) -> Index:
    """Reads an index, from its folder or its own path. Raises `InputError`, one line, if it is missing or wrong."""
    if path.is_dir():
        path = path / FILE
    try:
        return _INDEX.validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        key = ".".join(str(part) for part in first["loc"])
        more = f" (and {len(others)} more)" if others else ""
        raise InputError(f"{path}: {key + ': ' if key else ''}{first['msg']}{more}") from error


def schema() -> str:
    """The JSON schema of the file, as docs/index.schema.json holds it."""
    made: dict[str, Any] = _INDEX.json_schema(mode="validation")
    made["required"] = sorted({*made["required"], "schema_version"})
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Index of an image's artifacts"}
    return json.dumps({**head, **{key: value for key, value in made.items() if key != "title"}}, indent=2) + "\n"
