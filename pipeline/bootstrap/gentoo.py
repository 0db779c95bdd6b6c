"""Gentoo, by Portage's `--root`: here are the settings, and the target's foundation: its configuration and a stage3.

What is merged into it is merged in the stage `cycles`, by `pipeline.gentoo`: that takes the machine's own Portage or a
builder root, and not only files.
"""

from __future__ import annotations

import contextlib
import tarfile
import time
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from pipeline.bootstrap.method import STRICT, Method, Settings, register
from pipeline.bootstrap.source import Place, Sha256, Tarball, plain
from pipeline.bootstrap.values import Count, File, Folder, Packages, Text, Uri, matching, unique
from pipeline.command import BuildLog
from pipeline.errors import GoldspawnError
from pipeline.portage import configuration
from pipeline.portage.repos_conf import is_synced, locations, parsed, texts_of
from pipeline.reuse.world import Source
from pipeline.scratch import scratch

RepositoryName = Annotated[Text, matching(r"[A-Za-z0-9_][A-Za-z0-9_-]*", "the name of an ebuild repository")]
ProfileName = Annotated[
    Text, matching(r"[A-Za-z0-9_][A-Za-z0-9_-]*:[^\s/:][^\s:]*", 'a profile as "repository:path/of/profile"')
]  # fmt: skip
Set = Annotated[Text, matching(r"@[A-Za-z0-9_.+-]+|[A-Za-z0-9=<>~][^\s]*", 'a set such as "@system", or an atom')]
Commit = Annotated[Text, matching(r"[0-9a-f]{40}|[0-9a-f]{64}", "a whole commit id of git")]
GitUri = Annotated[
    Text, matching(r"(https?|git|ssh|file)://\S+|[^\s:]+@[^\s:]+:\S+", "the address of a git repository")
]
Variable = Annotated[Text, matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a variable of make.conf")]
Line = Annotated[Text, matching(r"[^\n]*\S[^\n]*", "one line")]
Binary = Annotated[Text, matching(r"prefer|only|never", '"prefer", "only" or "never"')]
ConfigFiles = Annotated[Text, matching(r"package|keep", '"package" or "keep"')]
FirstPass = Annotated[Text, matching(r"none|nodeps|packages\.build", '"none", "nodeps" or "packages.build"')]


@dataclass(frozen=True, config=STRICT)
class EbuildRepository:
    """An ebuild repository (an overlay): a folder of this machine, or one that git fetches."""

    name: Annotated[RepositoryName, Field(description="Its name, as in its `profiles/repo_name`.")]
    folder: Annotated[
        Folder | None, Field(description="Its folder: relative to the image's, or absolute. It is only read.")
    ] = None  # fmt: skip
    git: Annotated[GitUri | None, Field(description="Its address: it is synced with `emaint sync`.")] = None
    commit: Annotated[Commit | None, Field(description="The commit to build from. Default: the newest.")] = None
    key: Annotated[
        File | None,
        Field(description="File with the OpenPGP keys (ASCII armour) by one of which its commits must be signed."),
    ] = None
    priority: Annotated[int | None, Field(strict=True, description="Its priority among repositories.")] = None

    @model_validator(mode="after")
    def _one_place(self) -> EbuildRepository:
        if (self.folder is None) == (self.git is None):
            raise PydanticCustomError("goldspawn", "expected either `folder` or `git`")
        if self.git is None and (self.commit or self.key):
            raise PydanticCustomError("goldspawn", "`commit` and `key` are for repositories from `git`")
        return self


@dataclass(frozen=True, config=STRICT)
class Binhost:
    """A server of binary packages."""

    uri: Annotated[Uri, Field(description="Its address: the folder that has `Packages`.")]
    name: Annotated[RepositoryName, Field(description="Its name in binrepos.conf.")] = "binhost"
    verify: Annotated[bool, Field(strict=True, description="Whether its packages must be signed.")] = True
    priority: Annotated[int | None, Field(strict=True, description="Its priority among binhosts.")] = None


@dataclass(frozen=True, config=STRICT)
class Builder:
    """The root in which emerge runs where the host is no Gentoo: one of a tarball, a directory, an image."""

    tarball: Annotated[
        Place | None,
        Field(description="A stage3 tarball: a path relative to the image's folder, or a URI (http, https)."),
    ] = None
    sha256: Annotated[Sha256 | None, Field(description="The tarball's SHA-256 digest.")] = None
    key: Annotated[
        Text | None, Field(description="File with the OpenPGP keys of whoever may have signed the tarball.")
    ] = None  # fmt: skip
    directory: Annotated[
        Folder | None, Field(description="A directory with a root file system that has Portage; it is not changed.")
    ] = None  # fmt: skip
    image: Annotated[Text | None, Field(description="An image of goldspawn's whose golden snapshot has Portage.")] = (
        None
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Builder:
        if [self.tarball, self.directory, self.image].count(None) != 2:
            raise PydanticCustomError("goldspawn", "expected one of `tarball`, `directory` and `image`")
        if self.tarball is None and (self.sha256 or self.key):
            raise PydanticCustomError("goldspawn", "`sha256` and `key` are for a `tarball`")
        _ = self.stage3  # which has rules of its own
        return self

    @property
    def stage3(self) -> Tarball | None:
        """The tarball with what tells that it is the right one."""
        return None if self.tarball is None else Tarball(self.tarball, self.sha256, self.key)


@dataclass(frozen=True, config=STRICT)
class Gentoo(Settings):
    """Gentoo by Portage."""

    method: Annotated[Literal["gentoo"], Field(description="Gentoo by Portage's `emerge --root`.")] = "gentoo"
    profile: Annotated[
        ProfileName,
        Field(description="Profile of the target, of any repository.", examples=["gentoo:default/linux/amd64/23.0"]),
    ] = "gentoo:default/linux/amd64/23.0/systemd"
    sets: Annotated[
        tuple[Set, ...], Field(min_length=1, description="Sets that are merged; cycles among them are broken.")
    ] = ("@system", "@world", "@profile")  # fmt: skip
    packages: Annotated[Packages, Field(description="Atoms of the world file, shared by all images like this.")] = ()
    builder: Annotated[
        Builder | None, Field(description="Where emerge runs. Default: this host, which has to be a Gentoo then.")
    ] = None  # fmt: skip
    stage3: Annotated[
        Tarball | None, Field(description="A stage3 from which the target starts. Default: from nothing.")
    ] = None  # fmt: skip
    first_pass: Annotated[
        FirstPass,
        Field(
            description="What is merged before the sets: nothing; all of @system without regard to dependencies, and "
            "then again, in order; or what the profile's `packages.build` names with hardly a flag set, as catalyst "
            "does, which is built again at the end.",
            json_schema_extra={"enum": ["none", "nodeps", "packages.build"]},
        ),
    ] = "none"
    repositories: Annotated[
        tuple[EbuildRepository, ...],
        unique("repository", lambda one: one.name),
        Field(description="Ebuild repositories beside those that the builder or host has."),
    ] = ()
    main_repository: Annotated[
        RepositoryName | None, Field(description="The repository that overlays take for their master.")
    ] = None  # fmt: skip
    make_conf: Annotated[
        dict[Variable, Line], Field(description="Variables of make.conf.", examples=[{"USE": "-X", "CFLAGS": "-O2"}])
    ] = Field(default_factory=dict)
    package_use: Annotated[tuple[Line, ...], Field(description="Lines of package.use.")] = ()
    package_accept_keywords: Annotated[tuple[Line, ...], Field(description="Lines of package.accept_keywords.")] = ()
    package_mask: Annotated[tuple[Line, ...], Field(description="Lines of package.mask.")] = ()
    package_unmask: Annotated[tuple[Line, ...], Field(description="Lines of package.unmask.")] = ()
    package_license: Annotated[tuple[Line, ...], Field(description="Lines of package.license.")] = ()
    portage: Annotated[
        Folder | None, Field(description="Folder, relative to the image's, that is copied to /etc/portage first.")
    ] = None  # fmt: skip
    binary: Annotated[
        Binary,
        Field(
            description="Binary packages: taken where they are at hand, the only ones taken, or never taken.",
            json_schema_extra={"enum": ["prefer", "only", "never"]},
        ),
    ] = "prefer"
    binhosts: Annotated[
        tuple[Binhost, ...],
        unique("binhost", lambda one: one.name),
        Field(description="Servers of binary packages; our own builds fill one for each set of compiler flags."),
    ] = ()
    config_files: Annotated[
        ConfigFiles,
        Field(
            description="What becomes of a configuration file that is there already (CONFIG_PROTECT): the package's "
            "takes its place, or it is kept.",
            json_schema_extra={"enum": ["package", "keep"]},
        ),
    ] = "package"
    jobs: Annotated[Count | None, Field(description="Packages built at once. Default: from the machine's size.")] = None
    share: Annotated[
        bool,
        Field(
            strict=True,
            description="Whether the machine's .nspawn file binds the host's repositories, distfiles and packages.",
        ),
    ] = False

    @property
    def summary(self) -> str:
        return f"gentoo {self.profile}" + (", from a stage3" if self.stage3 is not None else "")

    @property
    def files(self) -> tuple[str, ...]:
        named = [one.key for one in self.repositories if one.key is not None]
        return (*named, *(self.stage3.files if self.stage3 is not None else ()))

    @property
    def builder_files(self) -> tuple[str, ...]:
        stage3 = self.builder.stage3 if self.builder is not None else None
        return stage3.files if stage3 is not None else ()

    @property
    def copied(self) -> tuple[str, ...]:
        return (self.portage,) if self.portage else ()

    def folders(self, base: Path) -> tuple[str, ...]:
        named = [one.folder for one in self.repositories if one.folder is not None]
        with contextlib.suppress(GoldspawnError):  # the bootstrap says so
            known = self.declared(base)
            local = [place for name, place in locations(known).items() if not is_synced(known[name])]
            named += [place for place in sorted(local) if place.startswith("/") and Path(place).is_dir()]
        return tuple(dict.fromkeys(named))

    def declared(self, base: Path) -> ConfigParser:
        """The repositories of repos.conf in the image's own folder; `base` is the image's. Raises `GoldspawnError`."""
        return parsed(texts_of(base / self.portage / "repos.conf") if self.portage is not None else [])

    @property
    def elsewhere(self) -> tuple[str, ...]:
        return ("share", "jobs")  # what the machine is bound to, and how much is built at once

    @property
    def shared(self) -> Mapping[str, bool]:
        if not self.share:
            return {}
        paths = configuration.REPOSITORIES, configuration.DISTFILES, configuration.PACKAGES
        return {str(path): path != configuration.REPOSITORIES for path in paths}

    def unseen(self) -> tuple[Source, ...]:
        return (Source("age", "the builder's own repositories and binhosts", time=int(time.time())),)

    @property
    def whole(self) -> bool:
        return False

    def configuration(self) -> configuration.Configuration:
        """The target's configuration, as Portage has it."""
        lines = {
            "use": self.package_use, "accept_keywords": self.package_accept_keywords, "mask": self.package_mask,
            "unmask": self.package_unmask, "license": self.package_license,
        }  # fmt: skip
        repositories = [
            configuration.Repository(
                one.name, one.git, one.commit, one.key is not None, one.key is not None, one.priority
            )
            for one in self.repositories
        ]
        binhosts = [configuration.Binhost(one.name, one.uri, one.verify, one.priority) for one in self.binhosts]
        return configuration.Configuration(
            self.profile, self.make_conf, lines, repositories, binhosts, self.main_repository
        )


class _Gentoo(Method[Gentoo]):
    name = "gentoo"
    settings = Gentoo
    tools: ClassVar = {"tar": "tar"}
    unprivileged = True

    def build(self, settings: Gentoo, tar: Path, *, log: BuildLog, base: Path, slowness: float) -> None:
        if settings.stage3 is not None:
            plain(settings.stage3, tar, key="bootstrap.stage3", log=log, base=base, slowness=slowness)
        else:
            tarfile.open(tar, "w").close()
        with scratch(tar) as work:
            tree = work / "tree"
            tree.mkdir(mode=0o755)
            folder = base / settings.portage if settings.portage else None
            configuration.write(settings.configuration(), tree, folder)
            for one in settings.repositories:
                if one.key is not None:
                    keys = tree / "etc/portage/goldspawn-keys"
                    keys.mkdir(exist_ok=True)
                    (keys / f"{one.name}.asc").write_bytes((base / one.key).read_bytes())
            if settings.packages:
                world = tree / "var/lib/portage/world"
                world.parent.mkdir(parents=True)
                world.write_text("".join(f"{atom}\n" for atom in sorted(settings.packages)))
            with tarfile.open(tar, "a", format=tarfile.PAX_FORMAT) as archive:
                for path in sorted(tree.rglob("*")):
                    archive.add(path, str(path.relative_to(tree)), recursive=False, filter=_of_root)

    def build_builder(self, settings: Gentoo, tar: Path, *, log: BuildLog, base: Path, slowness: float) -> None:
        assert settings.builder is not None and settings.builder.stage3 is not None
        plain(settings.builder.stage3, tar, key="bootstrap.builder", log=log, base=base, slowness=slowness)


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    if not member.issym():
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


register(_Gentoo())
