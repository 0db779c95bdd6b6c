"""Where an image's packages are merged: what a builder root and a host that is a Gentoo itself have in common."""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pipeline.bootstrap.gentoo import Gentoo
from pipeline.command import BuildLog
from pipeline.gentoo import repositories, sizing
from pipeline.gentoo.resolved import Resolved
from pipeline.gentoo.store import Store
from pipeline.image import Image
from pipeline.portage import Emerge, Memory, Trial
from pipeline.reuse.world import Source

Copy = Callable[[Path], AbstractContextManager[Path]]
"""Gives a throw-away copy of a tree."""


@dataclass(frozen=True)
class Workshop(ABC):
    """Where the packages of one image are merged; the `store` is shared with other images.

    `slowness` multiplies all time limits; synced repositories may be `max_age` seconds old. `logins` is a file of
    git-credential-store(1) for those of git, alone in its folder, None for none.
    """

    image: Image
    store: Store
    log: BuildLog
    slowness: float
    max_age: float
    logins: Path | None = field(default=None, kw_only=True)

    spare_builder: ClassVar = False
    """Whether the `/` of emerge is somebody's machine, in which nothing may be merged incomplete."""

    @abstractmethod
    def target(self, tree: Path) -> AbstractContextManager[tuple[Emerge, Trial | None]]:
        """An `Emerge` that merges into `tree` while the block runs, and where it can try what may fail.

        Syncs repositories where that is due. Raises `InputError` for a profile that does not exist, and where there is
        no Portage.
        """

    @abstractmethod
    def find_repositories(self) -> dict[str, Path]:
        """All repositories that this emerge knows, with their folders as we see them. Syncs where that is due."""

    @property
    def settings(self) -> Gentoo:
        settings = self.image.bootstrap
        assert isinstance(settings, Gentoo)
        return settings

    @cached_property
    def repositories(self) -> Mapping[str, Path]:
        """As `find_repositories`, looked for once."""
        return self.find_repositories()

    def sources(self) -> tuple[Source, ...]:
        """The repositories of git of which the newest commit is wanted, at the commit that is merged from here."""
        now = int(time.time())
        return tuple(
            Source("git", one.git, repositories.state(self.repositories[one.name]), now)
            for one in self.settings.repositories
            if one.git is not None and one.commit is None
        )

    def memory(self) -> Memory:
        """Where plans are remembered: for this configuration, and for repositories in this state."""
        own = self.settings.portage
        told = [
            repr(self.settings),
            repositories.contents(self.image.foundation.folder / own) if own is not None else "",
            sorted((name, repositories.state(one)) for name, one in self.repositories.items()),
        ]
        return Memory(self.store.plans, hashlib.sha256(json.dumps(told).encode()).hexdigest())


def options(settings: Gentoo, resolved: Resolved) -> tuple[str, ...]:
    """emerge's options for what `[bootstrap]` says of binary packages and jobs."""
    # "never" is said as well: FEATURES may have getbinpkg, by us or by make.conf.
    never = ["--usepkg=n", "--getbinpkg=n"]
    packages = {"prefer": ["--usepkg"], "only": ["--usepkgonly"], "never": never}[settings.binary]
    size = sizing.machine().size(settings.jobs, resolved.variables["MAKEOPTS"])
    return (*packages, "--binpkg-respect-use=y", f"--jobs={size.jobs}", f"--load-average={size.load}")


def environment(settings: Gentoo, resolved: Resolved) -> dict[str, str]:
    """What emerge gets said in its environment, where the target's own configuration says nothing against it.

    FEATURES there is added to that of make.conf.
    """
    features = ["buildpkg", "binpkg-multi-instance", *(["getbinpkg"] if settings.binhosts else [])]
    makeopts = resolved.variables["MAKEOPTS"] or sizing.machine().size(settings.jobs).makeopts
    return {
        "FEATURES": " ".join(word for word in features if word not in resolved.refused),
        "MAKEOPTS": makeopts,
        **({"CONFIG_PROTECT": "-*"} if settings.config_files == "package" else {}),
        "CLEAN_DELAY": "0",
        "EMERGE_WARNING_DELAY": "0",
    }
