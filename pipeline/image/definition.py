"""The tree of dataclasses that describes an image. Each field's description is the one in the reference page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, SerializeAsAny, Tag, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs, PydanticCustomError

from pipeline import bootstrap
from pipeline.bootstrap.method import STRICT, Settings
from pipeline.bootstrap.values import Count, Packages, Text, unique
from pipeline.image.boot import Boot
from pipeline.image.checks import Checks
from pipeline.image.nspawn import Nspawn
from pipeline.image.private_users import impossible
from pipeline.image.secrets import Secret, SecretName, Use
from pipeline.image.service import Service
from pipeline.image.values import (
    AbsolutePath,
    AccountId,
    AccountName,
    AuthorizedKey,
    Command,
    Compression,
    Hostname,
    ImageName,
    Locale,
    Password,
    Timezone,
    Units,
)

DEFAULT_METHOD = "mmdebstrap"


@dataclass(frozen=True, config=STRICT)
class User:
    """A user: made, or brought in line where a package has made it."""

    name: Annotated[AccountName, Field(description="Login name.")]
    uid: Annotated[AccountId | None, Field(description="User id. Default: the next free one.")] = None
    groups: Annotated[
        tuple[AccountName, ...], Field(description="Further groups; each exists, or stands in `groups`.")
    ] = ()  # fmt: skip
    shell: Annotated[AbsolutePath | None, Field(description="Login shell. Default: the distribution's.")] = None
    home: Annotated[AbsolutePath | None, Field(description="Home directory. Default: `/home/<name>`.")] = None
    system: Annotated[bool, Field(strict=True, description="Whether it is a system user (useradd(8)).")] = False
    password: Annotated[
        Password, Field(description='Hash of the password as mkpasswd(1) prints it, or "locked".')
    ] = "locked"  # fmt: skip
    authorized_keys: Annotated[
        tuple[AuthorizedKey, ...], Field(description="Public keys for ssh, a line each.")
    ] = ()  # fmt: skip


@dataclass(frozen=True, config=STRICT)
class Group:
    """A group."""

    name: Annotated[AccountName, Field(description="Name.")]
    gid: Annotated[AccountId | None, Field(description="Group id. Default: the next free one.")] = None
    system: Annotated[bool, Field(strict=True, description="Whether it is a system group (groupadd(8)).")] = False


@dataclass(frozen=True, config=STRICT)
class Profile:
    """What makes the machine its own, on top of the bootstrap. Files in the folder `root/` belong to it, too."""

    packages: Annotated[
        Packages, Field(description="Packages, installed by the distribution's package manager.")
    ] = ()  # fmt: skip
    enable: Annotated[Units, Field(description="Units to enable.", examples=[["nginx.service"]])] = ()
    disable: Annotated[Units, Field(description="Units to disable.")] = ()
    mask: Annotated[Units, Field(description="Units to mask.")] = ()
    users: Annotated[
        tuple[User, ...], unique("user", lambda user: user.name), Field(description="Users.")
    ] = ()  # fmt: skip
    groups: Annotated[
        tuple[Group, ...], unique("group", lambda group: group.name), Field(description="Groups.")
    ] = ()  # fmt: skip
    hostname: Annotated[Hostname | None, Field(description="Host name. Default: the image's name.")] = None
    locale: Annotated[Locale, Field(description="LANG of the machine (locale.conf(5)).")] = "C.UTF-8"
    timezone: Annotated[Timezone, Field(description="Time zone (tz database).")] = "Etc/UTC"
    run: Annotated[
        tuple[Command, ...],
        Field(description="Commands that run inside the tree last, with `sh -ec` under systemd-nspawn, in order."),
    ] = ()

    @model_validator(mode="after")
    def _one_fate_a_unit(self) -> Profile:
        for one, other in (("enable", "disable"), ("enable", "mask")):
            if both := sorted(set(getattr(self, one)) & set(getattr(self, other))):
                values = {"unit": both[0], "one": one, "other": other}
                raise PydanticCustomError("goldspawn", '"{unit}" stands in both {one} and {other}', values)
        return self

    @model_validator(mode="after")
    def _one_owner_a_number(self) -> Profile:
        for what, numbers in (("uid", [u.uid for u in self.users]), ("gid", [g.gid for g in self.groups])):
            given = [number for number in numbers if number is not None]
            if twice := next((number for number in given if given.count(number) > 1), None):
                raise PydanticCustomError("goldspawn", "{what} {n} is given twice", {"what": what, "n": twice})
        return self


@dataclass(frozen=True, config=STRICT)
class Artifact:
    """What is exported."""

    compression: Annotated[
        Compression, Field(description="Compression of the dataset and of its stream (zfsprops(7)).")
    ] = "zstd"  # fmt: skip
    deltas: Annotated[
        tuple[Literal["previous", "base"], ...],
        unique("delta"),
        Field(
            description="Streams of changes beside the full one: from the `previous` version, from the image that it "
            "is built on (`base`)."
        ),
    ] = ()
    keep: Annotated[
        Count, Field(description="How many versions' deltas are kept in the artifact's folder, the newest included.")
    ] = 5


def _method(value: object) -> str | None:
    found = value.get("method", DEFAULT_METHOD) if isinstance(value, dict) else getattr(value, "method", None)
    return found if isinstance(found, str) else None


if TYPE_CHECKING:
    Bootstrap = Settings
else:
    Bootstrap = Annotated[
        Union[tuple(Annotated[one.settings, Tag(name)] for name, one in bootstrap.known().items())],  # noqa: UP007
        Discriminator(_method),
    ]


def _default_bootstrap() -> Settings:
    made: Settings = bootstrap.get(DEFAULT_METHOD).settings()
    return made


@dataclass(frozen=True, config=STRICT)
class Definition:
    """image.toml: what a golden image is made of."""

    description: Annotated[Text, Field(description="What the machine is for, in one line.")] = ""
    base: Annotated[
        ImageName | None,
        Field(
            alias="from",
            description="Another image, on whose sealed tree this one is built by clone; it stands beside this one, or "
            "in a folder of `--images`. Then there is no `[bootstrap]`.",
        ),
    ] = None
    bootstrap: Annotated[
        Bootstrap, Field(description="Where the root file system comes from.")
    ] = dataclasses.field(default_factory=_default_bootstrap)  # fmt: skip
    profile: Annotated[
        Profile, Field(description="What makes the machine its own.")
    ] = dataclasses.field(default_factory=Profile)  # fmt: skip
    boot: Annotated[Boot, Field(description="How the machine is run.")] = dataclasses.field(default_factory=Boot)
    nspawn: Annotated[
        Nspawn, Field(description="The machine's .nspawn file.")
    ] = dataclasses.field(default_factory=Nspawn)  # fmt: skip
    service: Annotated[
        Service, Field(description="The machine's unit on a host.")
    ] = dataclasses.field(default_factory=Service)  # fmt: skip
    secrets: Annotated[
        dict[SecretName, Secret], Field(description="What stands in no image, by name.")
    ] = dataclasses.field(default_factory=dict)  # fmt: skip
    checks: Annotated[
        Checks, Field(description="Ready-made checks of the running machine.")
    ] = dataclasses.field(default_factory=Checks)  # fmt: skip
    artifact: Annotated[Artifact, Field(description="What is exported.")] = dataclasses.field(default_factory=Artifact)

    @model_validator(mode="before")
    @classmethod
    def _one_foundation(cls, data: Any) -> Any:
        given = data.kwargs if isinstance(data, ArgsKwargs) else data
        if isinstance(given, dict) and "from" in given and "bootstrap" in given:
            raise PydanticCustomError("goldspawn", "`from` and `[bootstrap]` exclude each other: a base brings its own")
        return data

    @model_validator(mode="after")
    def _possible(self) -> Definition:
        asks = [name for name, secret in self.secrets.items() if "apt" in secret.use]
        if asks and self.bootstrap.method == "debootstrap":
            values = {"name": asks[0]}
            message = '`secrets.{name}`: apt logs in with `bootstrap.method = "mmdebstrap"`; debootstrap cannot'
            raise PydanticCustomError("goldspawn", message, values)
        asks = [name for name, secret in self.secrets.items() if "git" in secret.use]
        if asks and self.base is None and self.bootstrap.method != "gentoo":
            message = '`secrets.{name}`: git logs in for ebuild repositories, and `bootstrap.method` is not "gentoo"'
            raise PydanticCustomError("goldspawn", message, {"name": asks[0]})
        if self.checks.updates and self.bootstrap.method == "gentoo":
            message = "`checks.updates` asks apt; a build of Gentoo says by itself that nothing is left to update"
            raise PydanticCustomError("goldspawn", message)
        secret = {name for name, one in self.secrets.items() if "credential" in one.use}
        if both := sorted(secret & self.boot.credentials.keys()):
            message = "`boot.credentials` and `secrets` both have a credential {name}"
            raise PydanticCustomError("goldspawn", message, {"name": both[0]})
        if problem := impossible(self.boot.private_users, self.nspawn):
            raise PydanticCustomError("goldspawn", "{problem}", {"problem": problem})
        return self


@dataclasses.dataclass(frozen=True)
class Image:
    """An image: its name, its folder, and what its image.toml says.

    `base` is the image that it stands on, whose bootstrap is then its own.
    """

    name: str
    folder: Path
    description: str
    bootstrap: SerializeAsAny[Settings]
    profile: Profile
    boot: Boot
    nspawn: Nspawn
    service: Service
    secrets: Mapping[str, Secret]
    checks: Checks
    artifact: Artifact
    base: Image | None = None

    @property
    def chain(self) -> tuple[Image, ...]:
        """The image and those that it stands on, the lowest last."""
        return (self, *(self.base.chain if self.base is not None else ()))

    @property
    def foundation(self) -> Image:
        """The image of the chain whose `[bootstrap]` it is: paths in that are relative to its folder."""
        return self.chain[-1]

    def secrets_for(self, use: Use) -> tuple[str, ...]:
        """The names of the secrets that somebody is given, in order."""
        return tuple(sorted(name for name, secret in self.secrets.items() if use in secret.use))

    @property
    def root(self) -> Path | None:
        """The folder whose files are copied over the root file system, None if there is none."""
        root = self.folder / "root"
        return root if root.is_dir() else None

    @property
    def tests(self) -> list[Path]:
        """The files with its acceptance tests."""
        return sorted(self.folder.glob("test_*.py"))

    @property
    def key_files(self) -> list[Path]:
        """The files that its bootstrap's settings name (keys of repositories): inputs of the bootstrap."""
        return [self.folder / name for name in self.bootstrap.files]


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def adapter(kind: type) -> TypeAdapter[Any]:
    """Pydantic's validator and serializer of a dataclass, made once."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def as_data(obj: Any) -> dict[str, Any]:
    """A dataclass of this tree as what JSON can hold, with all its defaults: the same for the same meaning."""
    data: dict[str, Any] = adapter(type(obj)).dump_python(obj, mode="json")
    return data
