"""Where an image's packages are merged: what a builder root and a host that is a Gentoo itself have in common."""

from __future__ import annotations

import hashlib
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pipeline.bootstrap.gentoo import Gentoo
from pipeline.command import BuildLog
from pipeline.gentoo import repositories
from pipeline.gentoo.store import Store
from pipeline.image import Image
from pipeline.portage import Emerge, Memory, Trial
from pipeline.reuse.world import Source

_MEMORY_A_JOB = 2 << 30
"""Bytes of memory that one compiler may want (Gentoo's handbook, MAKEOPTS)."""


Copy = Callable[[Path], AbstractContextManager[Path]]
"""Gives a throw-away copy of a tree."""


@dataclass(frozen=True)
class Workshop(ABC):
    """Where the packages of one image are merged; the `store` is shared with other images.

    `slowness` multiplies all time limits; synced repositories may be `max_age` seconds old.
    """

    image: Image
    store: Store
    log: BuildLog
    slowness: float
    max_age: float

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
        """Where plans are remembered: for these settings, and for repositories in this state."""
        told = [
            repr(self.settings),
            sorted((name, repositories.state(one)) for name, one in self.repositories.items()),
        ]
        return Memory(self.store.plans, hashlib.sha256(json.dumps(told).encode()).hexdigest())


def options(settings: Gentoo) -> tuple[str, ...]:
    """emerge's options for what `[bootstrap]` says of binary packages and jobs."""
    # "never" is said as well: FEATURES may have getbinpkg, by us or by make.conf.
    never = ["--usepkg=n", "--getbinpkg=n"]
    packages = {"prefer": ["--usepkg"], "only": ["--usepkgonly"], "never": never}[settings.binary]
    return (*packages, "--binpkg-respect-use=y", f"--jobs={settings.jobs or _jobs()}", f"--load-average={_cores()}")


def environment(settings: Gentoo) -> dict[str, str]:
    """What emerge gets said in its environment; FEATURES there is added to that of make.conf."""
    features = ["buildpkg", "binpkg-multi-instance", *(["getbinpkg"] if settings.binhosts else [])]
    return {
        "FEATURES": " ".join(features),
        "MAKEOPTS": settings.make_conf.get("MAKEOPTS", f"-j{_jobs()} -l{_cores()}"),
        **({"CONFIG_PROTECT": "-*"} if settings.config_files == "package" else {}),
        "CLEAN_DELAY": "0",
        "EMERGE_WARNING_DELAY": "0",
    }


def _cores() -> int:
    """The processors that this build may use: those of the machine, shared among the workers of pytest-xdist."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _jobs() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(_cores(), round(memory / _MEMORY_A_JOB)))
