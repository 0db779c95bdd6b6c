"""A builder root that is ready to be worked in: how it is entered, what it shares, and the `Emerge` that it gives.

Where its tree comes from, datasets or plain folders, is the matter of `datasets` and `folders`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.bootstrap.gentoo import Gentoo
from pipeline.command import BuildLog
from pipeline.errors import InputError
from pipeline.gentoo import repositories
from pipeline.gentoo.counting import Counting
from pipeline.gentoo.enter import Enter
from pipeline.gentoo.store import Store
from pipeline.image import Image
from pipeline.portage import Emerge, Memory, configuration

TARGET = "/mnt/goldspawn"
"""Where a builder sees the tree into which it merges."""

_MEMORY_A_JOB = 2 << 30
"""Bytes of memory that one compiler may want (Gentoo's handbook, MAKEOPTS)."""


@dataclass(frozen=True)
class Workshop:
    """A builder root for one image: its tree `root` (thrown away afterwards), the `store` that it shares with others.

    `slowness` multiplies all time limits; synced repositories may be `max_age` seconds old.
    """

    image: Image
    root: Path
    store: Store
    enter: Enter
    log: BuildLog
    slowness: float
    max_age: float

    @property
    def settings(self) -> Gentoo:
        settings = self.image.bootstrap
        assert isinstance(settings, Gentoo)
        return settings

    def command(self, argv: list[str], binds: Mapping[str, Path]) -> list[str]:
        """The command line that runs `argv` in the builder root, which sees the folders `binds`."""
        return [*self.enter(self.root, binds, {}), *argv]

    def emerge(self, tree: Path) -> Emerge:
        """An `Emerge` that merges into `tree`. Syncs repositories where that is due.

        Raises `InputError` for a root without Portage and for a profile that does not exist.
        """
        if not any((self.root / name).exists() for name in ("usr/bin/emerge", "usr/sbin/emerge")):
            raise InputError(
                "bootstrap.builder of image.toml: that root has no emerge", hint="a stage3 tarball has one"
            )
        self._configure()
        known = self._repositories
        configuration.check_profile(self.settings.profile, known, key="bootstrap.profile")
        binds = {
            TARGET: tree,
            str(configuration.DISTFILES): self.store.distfiles,
            str(configuration.PACKAGES): self.store.packages,
        }
        shown = {
            str(configuration.REPOSITORIES / name): folder
            for name, folder in known.items()
            if not folder.is_relative_to(self.root)
        }
        return Emerge(
            TARGET,
            tree,
            builder=self.root,
            wrapper=tuple(self.enter(self.root, binds, shown)),
            options=tuple(options(self.settings)),
            environment=environment(self.settings),
            log=Counting(self.log),
            slowness=self.slowness,
        )

    def memory(self) -> Memory:
        """Where plans are remembered: for these settings, and for repositories in this state."""
        told = [
            repr(self.settings),
            sorted((name, repositories.state(one)) for name, one in self._repositories.items()),
        ]
        return Memory(self.store.plans, hashlib.sha256(json.dumps(told).encode()).hexdigest())

    @cached_property
    def _repositories(self) -> dict[str, Path]:
        return repositories.folders(self)

    def _configure(self) -> None:
        """Tells the builder's own Portage of the image's repositories: what BDEPEND names may come from them."""
        file = configuration.ETC / "repos.conf" / "goldspawn.conf"
        if (text := configuration.files(self.settings.configuration()).get(file)) is not None:
            (self.root / file).parent.mkdir(parents=True, exist_ok=True)
            (self.root / file).write_text(text)


def options(settings: Gentoo) -> list[str]:
    """emerge's options for what `[bootstrap]` says of binary packages and jobs."""
    packages = {"prefer": ["--usepkg"], "only": ["--usepkgonly"], "never": []}[settings.binary]
    return [*packages, "--binpkg-respect-use=y", f"--jobs={settings.jobs or _jobs()}", f"--load-average={_cores()}"]


def environment(settings: Gentoo) -> dict[str, str]:
    """What emerge gets said in its environment; FEATURES there is added to that of make.conf."""
    features = ["buildpkg", "binpkg-multi-instance", *(["getbinpkg"] if settings.binhosts else [])]
    return {
        "FEATURES": " ".join(features),
        "MAKEOPTS": settings.make_conf.get("MAKEOPTS", f"-j{_jobs()} -l{_cores()}"),
        # Configuration files are taken as packages bring them; what an image wants otherwise is in its root/.
        "CONFIG_PROTECT": "-*",
        "CLEAN_DELAY": "0",
        "EMERGE_WARNING_DELAY": "0",
    }


def _cores() -> int:
    """The processors that this build may use: those of the machine, shared among the workers of pytest-xdist."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _jobs() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(_cores(), round(memory / _MEMORY_A_JOB)))
