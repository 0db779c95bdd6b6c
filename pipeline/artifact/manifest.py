"""manifest.json: what an artifact is, what was checked with which result, what it contains, what a receiver needs.

These classes are the one description of the file; `docs/manifest.schema.json` is made from them
(`python -m pipeline.artifact schema`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints
from pydantic.dataclasses import dataclass

from pipeline.artifact.document import STRICT, Document

FILE = "manifest.json"
SCHEMA: Literal[1, 2] = 2
"""Grows when an old reader would misunderstand a new file; 2 added `deltas`. Files of all earlier versions are read."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
"""Of an image or a file: it stands in commands that people paste, and never leads out of the artifact's folder."""
Guid = Annotated[
    str,
    BeforeValidator(lambda guid: str(guid) if isinstance(guid, int) else guid),
    StringConstraints(pattern=r"^[0-9]{1,20}$"),
    Field(description="As `zfs get guid` prints it; a string, since JSON readers round 64-bit numbers"),
]
Bytes = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class Snapshot:
    """The golden snapshot: its name in the pool that it was built in, and its guid, which it keeps in every pool."""

    name: str
    guid: Guid


@dataclass(frozen=True, config=STRICT)
class Stream:
    """The file beside the manifest: size in bytes, and the pool features that a receiver needs."""

    file: Name
    size: Bytes
    sha256: Sha256
    features: tuple[str, ...]


@dataclass(frozen=True, config=STRICT)
class Origin:
    """What a delta starts from: the snapshot with this guid, which the receiver has to have.

    Of kind `previous` it is an earlier version in the dataset that takes the delta, of kind `base` that of another
    image, anywhere in the pool: what is received then is a clone of it.
    """

    kind: Literal["previous", "base"]
    image: Name
    version: str
    guid: Guid
    snapshot: Annotated[str, Field(description="Its name in the pool that the delta was made in")]


@dataclass(frozen=True, config=STRICT)
class Delta:
    """A stream of what changed since another snapshot, in a file beside the manifest."""

    file: Name
    size: Bytes
    sha256: Sha256
    features: tuple[str, ...]
    origin: Annotated[Origin, Field(alias="from")]
    receive: Annotated[str, Field(description="The command that takes it in; ZFS refuses it onto a machine that ran")]
    beside: Annotated[
        str | None,
        Field(description="The command that takes it in beside a machine that ran, as another one; none is lost"),
    ] = None


@dataclass(frozen=True, config=STRICT)
class Versions:
    """What built and booted the image."""

    openzfs: str
    systemd: str
    goldspawn: str
    kernel: str


@dataclass(frozen=True, config=STRICT)
class Place:
    """Where it was built: on the host itself or in the appliance, and what ran its instructions there."""

    kind: Literal["native", "appliance"]
    accelerator: Annotated[str, Field(description="`none` on a native host, else `kvm` or `tcg`")]


@dataclass(frozen=True, config=STRICT)
class Check:
    """One check of the machine, by its pytest node id."""

    name: str
    result: Literal["passed", "failed", "skipped"]
    seconds: Seconds


@dataclass(frozen=True, config=STRICT)
class Tree:
    """The digest of the file tree (pipeline/artifact/tree.py has its format), by which builds can be compared."""

    sha256: Sha256
    entries: Bytes
    bytes: Bytes


@dataclass(frozen=True, config=STRICT)
class Package:
    """A package as the tree's own package database writes it."""

    name: str
    version: str
    architecture: str


@dataclass(frozen=True, config=STRICT)
class Source:
    """What packages came from: an index (`state` is its SHA-256), a git repository (its commit), or by age."""

    kind: Literal["index", "git", "age"]
    uri: str
    state: str


@dataclass(frozen=True, config=STRICT)
class World:
    """The state of the world that the tree was drawn from, and whether it was looked at in the run that exported."""

    looked: Annotated[
        Literal["current", "recent", "frozen", "offline"],
        Field(
            description="`current`: nothing had moved; `recent`: looked at less than --max-age ago; `frozen` and "
            "`offline`: taken as it was, as asked"
        ),
    ]
    sources: tuple[Source, ...]


@dataclass(frozen=True, config=STRICT)
class Settings:
    """The files for the host beside the manifest; how the settings of the verified machine differed, and why."""

    nspawn: Name
    drop_in: Annotated[Name | None, Field(description="For systemd-nspawn@IMAGE.service.d, if the image has one")]
    unlike: tuple[str, ...]
    credentials: Annotated[
        tuple[Name, ...],
        Field(description="Files with secrets in the host's /etc/credstore; no stream has them"),
    ] = ()


@dataclass(frozen=True, config=STRICT)
class Boot:
    """How the verified machine booted, in seconds, and its units, the slowest first."""

    seconds: Seconds
    units: dict[str, Seconds]


@dataclass(frozen=True, config=STRICT)
class Changes:
    """What is different from the version that was here before: packages by name, with versions; and how it boots."""

    version: str
    added: dict[str, str]
    removed: dict[str, str]
    updated: Annotated[dict[str, tuple[str, str]], Field(description="The version before, and the one now")]
    boots: Annotated[str, Field(description="In words, if it boots later than before, and why")] = ""

    @property
    def summary(self) -> str:
        """All of it in one line."""
        updated = [f"{name} {old} -> {new}" for name, (old, new) in self.updated.items()]
        kinds = {"new": _pairs(self.added), "gone": _pairs(self.removed), "updated": updated}
        said = [self.boots] if self.boots else []
        said += [f"{kind}: {_few(names)}" for kind, names in kinds.items() if names]
        return f"since {self.version}: {'; '.join(said) or 'the packages are the same'}"


def _pairs(versions: Mapping[str, str]) -> list[str]:
    return [f"{name} {version}" for name, version in versions.items()]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


@dataclass(frozen=True, config=STRICT)
class Manifest:
    """All that a build has to say about its artifact."""

    image: Name
    version: Annotated[str, Field(description="When it was built, as in the stream's name, e.g. 20261123T191500Z")]
    time: AwareDatetime
    input_hash: Annotated[str, Field(description="Hash of everything that went into the build")]
    snapshot: Snapshot
    stream: Stream
    versions: Versions
    place: Place
    checks: tuple[Check, ...]
    tree: Tree
    packages: tuple[Package, ...]
    receive: Annotated[str, Field(description="The command that takes the stream in, typed in the artifact's folder")]
    cycles: Annotated[
        dict[str, Any] | None,
        Field(description="For Gentoo: how circular build dependencies were opened, and what was built again"),
    ] = None
    world: World | None = None
    verified: Annotated[
        AwareDatetime | None, Field(description="When the checks passed; an unchanged snapshot is not booted again")
    ] = None
    deltas: Annotated[
        tuple[Delta, ...], Field(description="Streams of changes that lead to this version; more are in index.json")
    ] = ()
    settings: Settings | None = None
    boot: Boot | None = None
    changes: Changes | None = None
    schema_version: Literal[1, 2] = SCHEMA

    def save(self, folder: Path, name: str = FILE) -> Path:
        """Writes the manifest into `folder`; returns its path. Raises `PlaceError` if that cannot be done."""
        MANIFEST.save(self, folder / name)
        return folder / name


MANIFEST = Document(Manifest, FILE, "Manifest of a goldspawn artifact")
load = MANIFEST.load
schema = MANIFEST.schema
