"""What a bootstrap method is, and the register of those that there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from pipeline.command import BuildLog
from pipeline.errors import InputError, PlaceError
from pipeline.reuse.world import Source
from pipeline.scratch import scratch

STRICT = ConfigDict(extra="forbid", defer_build=True)
"""How every dataclass of image.toml is validated: a key that is not known is an error."""


@dataclass(frozen=True, config=STRICT)
class Settings:
    """The section `[bootstrap]`: `method`, and what that method wants to know.

    A method's settings derive from this, with `method` a `Literal` of its name.
    """

    method: str

    @property
    def summary(self) -> str:
        """What is made, in a few words."""
        return self.method

    @property
    def files(self) -> tuple[str, ...]:
        """Files that the settings name, relative to the image's folder: they are inputs of the build."""
        return ()

    @property
    def copied(self) -> tuple[str, ...]:
        """Folders that the settings name whose files come into the bootstrap: inputs of that."""
        return ()

    def folders(self, base: Path) -> tuple[str, ...]:
        """Folders that the settings name: inputs of what is merged after the bootstrap. `base` is the image's."""
        return ()

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Fields that change nothing in a tree."""
        return ()

    @property
    def builder_files(self) -> tuple[str, ...]:
        """Files that make the root in which packages are built, for settings that have one."""
        return ()

    def world(self, tree: Path) -> tuple[Source, ...]:
        """What the packages of a tree came from, as the tree itself tells: its package manager's indices."""
        return ()

    def installed_world(self, tree: Path) -> tuple[Source, ...]:
        """As `world`, of a tree into which its own package manager has installed more."""
        return self.world(tree)

    def unseen(self) -> tuple[Source, ...]:
        """What packages come from, and nobody can look at cheaply: it counts by its age, from now on."""
        return ()

    @property
    def shared(self) -> Mapping[str, bool]:
        """Directories of the host that the machine sees at the same paths, and whether it may write there."""
        return {}

    @property
    def whole(self) -> bool:
        """Whether the bootstrap is a whole root file system, into which nothing has to be merged from source."""
        return True


S = TypeVar("S", bound=Settings)


class Method(ABC, Generic[S]):
    """A way to make a root file system. `make` is what callers use, `build` what a method writes."""

    name: ClassVar[str]
    """What `bootstrap.method` calls it."""
    settings: type[S]
    """The dataclass that its section is read into; each field carries a default and a description."""
    tools: ClassVar[Mapping[str, str]]
    """The commands that it runs, each with the Debian package that has it."""
    unprivileged: ClassVar[bool] = False
    """Whether a plain user can make a whole tree with it."""
    logs_in: ClassVar[bool] = False
    """Whether `build` takes `logins`: a folder with files of apt_auth.conf(5), or None."""

    def make(
        self, settings: S, tar: Path, *, log: BuildLog, base: Path, slowness: float, logins: Path | None = None
    ) -> None:
        """Makes the root file system as the file `tar`: whole, or not there.

        The tar is uncompressed, with numeric owners, extended attributes, ACLs, file capabilities and device nodes.
        `base` is the image's folder, against which relative paths resolve; `slowness` multiplies every time limit.
        `logins` is a folder with files of apt_auth.conf(5), for a method that logs in.
        Raises `CommandFailed` with a hint that names the key of image.toml that is wrong. What a killed run leaves
        is a folder `.….tmp` beside the tar (for a plain user: in the folder for temporary files), which the next
        run clears.
        """
        build: Callable[..., None] = self.build
        self._whole(
            partial(build, logins=logins) if self.logs_in else build,
            settings,
            tar,
            log=log,
            base=base,
            slowness=slowness,
        )

    def make_builder(self, settings: S, tar: Path, *, log: BuildLog, base: Path, slowness: float) -> None:
        """Makes the tar of the root in which packages are built, for a method that has one; else as `make`."""
        self._whole(self.build_builder, settings, tar, log=log, base=base, slowness=slowness)

    @staticmethod
    def _whole(
        build: Callable[..., None], settings: S, tar: Path, *, log: BuildLog, base: Path, slowness: float
    ) -> None:
        with scratch(tar) as work:
            (work / "root.tar").touch(mode=0o600)  # it holds /etc/shadow
            build(settings, work / "root.tar", log=log, base=base, slowness=slowness)
            (work / "root.tar").replace(tar)

    @abstractmethod
    def build(self, settings: S, tar: Path, *, log: BuildLog, base: Path, slowness: float) -> None:
        """Writes the tar. Its folder is this run's own, and is cleared whatever happens."""

    def build_builder(self, settings: S, tar: Path, *, log: BuildLog, base: Path, slowness: float) -> None:
        """Writes the tar of the root in which packages are built; only for methods whose settings have one."""
        raise NotImplementedError(self.name)


_METHODS: dict[str, Method[Any]] = {}


def register(method: Method[Any]) -> None:
    """Makes a method known under its name."""
    if _METHODS.setdefault(method.name, method) is not method:
        raise RuntimeError(f"two bootstrap methods are called {method.name}")


def known() -> dict[str, Method[Any]]:
    """All methods by name, in the order of their names."""
    return dict(sorted(_METHODS.items()))


def get(name: str) -> Method[Any]:
    """The method of that name. Raises `InputError` naming those that there are, the nearest first."""
    if name in _METHODS:
        return _METHODS[name]
    raise InputError(f'unknown bootstrap method "{name}"', hint=f"known: {', '.join(known())}")


def missing_tools(method: Method[Any]) -> PlaceError | None:
    """One error that names every command the method needs and this machine lacks, with the package that has it."""
    from pipeline.place import missing

    return missing(dict(method.tools))
