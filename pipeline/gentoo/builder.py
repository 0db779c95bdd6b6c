"""A builder root: a tree with Portage in which `/` is not the host's, entered for each command.

Where its tree comes from, datasets or plain folders, is the matter of `datasets` and `folders`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.errors import InputError
from pipeline.gentoo import repositories
from pipeline.gentoo.counting import Counting
from pipeline.gentoo.enter import Enter
from pipeline.gentoo.resolved import Resolved, say_packages
from pipeline.gentoo.syncing import Syncing, held
from pipeline.gentoo.workshop import Copy, Workshop, environment, options
from pipeline.netrc import git_from_file
from pipeline.portage import Emerge, Trial, configuration, repos_conf, status
from pipeline.portage.cycles import Root
from pipeline.secrets import SHOWN_GIT

TARGET = "/mnt/goldspawn"
"""Where a builder sees the tree into which it merges."""

TRIED = "/var/lib/goldspawn/tried"
"""Where a builder, and a copy of it, has the packages that were built to try them."""


@dataclass(frozen=True)
class _Said:
    """What the target's configuration says, and the folders of binary packages, by where the builder sees them."""

    target: Resolved
    packages: Mapping[str, Path]


@dataclass(frozen=True)
class BuilderRoot(Workshop):
    """A workshop in the tree `root`, which is thrown away afterwards; `enter` is how a command gets into it.

    `copy` copies a root for what may fail; without it, that is done at once.
    """

    root: Path
    enter: Enter
    copy: Copy | None = None

    @contextlib.contextmanager
    def target(self, tree: Path) -> Iterator[tuple[Emerge, Trial | None]]:
        if not any((self.root / name).exists() for name in ("usr/bin/emerge", "usr/sbin/emerge")):
            raise InputError(
                "bootstrap.builder of image.toml: that root has no emerge", hint="a stage3 tarball has one"
            )
        self._configure()
        configuration.check_profile(self.settings.profile, self.repositories, key="bootstrap.profile")
        with held(self.repositories.values()):
            said = self._resolve(tree)
            yield self._emerge(tree, self.root, said), self._trial(tree, said) if self.copy is not None else None
        if self.settings.share:
            say_packages(tree / configuration.ETC, said.target.packages)

    def find_repositories(self) -> dict[str, Path]:
        known, where = self._known, self._locations
        syncing = Syncing(
            self.store.repositories,
            lambda name, folder: where[name],
            lambda argv, name, folder: self._syncing(argv, where[name], folder),
            self.log, self.slowness, self.max_age,
        )  # fmt: skip
        base = self.image.foundation.folder
        found = repositories.of_image(self.settings, base, syncing)
        for name, location in where.items():
            if name in found:
                continue
            found[name] = self.root / location.lstrip("/")
            if not repositories.is_filled(found[name]):
                found[name] = repositories.of_section(known[name], self.settings, base, syncing)
        return found

    def _syncing(self, argv: list[str], where: str, folder: Path) -> list[str]:
        """A command line for a repository that is synced to `folder`, which the builder sees at `where`."""
        shown = {SHOWN_GIT: self.logins.parent} if self.logins is not None else {}
        git = git_from_file(f"{SHOWN_GIT}/{self.logins.name}" if self.logins is not None else None)
        variables = (f"{name}={value}" for name, value in git.items())
        return [*self.enter(self.root, {where: folder}, shown), "env", *variables, *argv]

    @cached_property
    def _known(self) -> ConfigParser:
        """What the builder's own Portage knows of repositories: the image's are among them."""
        places = (self.root / "usr/share/portage/config/repos.conf", self.root / configuration.ETC / "repos.conf")
        return repos_conf.parsed(repos_conf.texts_of(*places))

    @property
    def _locations(self) -> Mapping[str, str]:
        return repos_conf.locations(self._known)

    def _resolve(self, tree: Path) -> _Said:
        """What the target's configuration says; and what the builder's own leaves open is said there.

        The environment of an emerge with --root is not for what it merges into its own `/`.
        """
        emerge = Emerge(TARGET, tree, wrapper=tuple(self.enter(self.root, {TARGET: tree}, self._shown)),
                        log=self.log, slowness=self.slowness)  # fmt: skip
        target = Resolved.of(emerge, tree / configuration.ETC)
        own = Resolved.of(emerge, self.root / configuration.ETC, at="builder")
        told = environment(self.settings, own)
        with configuration.place_for(self.root / configuration.ETC / "make.conf").open("a") as out:
            out.write(
                f'FEATURES="${{FEATURES}} {told["FEATURES"]}"\nMAKEOPTS="{told["MAKEOPTS"]}"\n'
                f'PKGDIR="{configuration.BUILDER_PACKAGES}"\n'
            )
        at = target.variables["PKGDIR"] or str(configuration.PACKAGES)
        packages = {str(configuration.BUILDER_PACKAGES): own.packages, at: target.packages}
        return _Said(target, {where: self.store.packages(name) for where, name in packages.items()})

    def _trial(self, tree: Path, said: _Said) -> Trial:
        @contextlib.contextmanager
        def copied(root: Root) -> Iterator[Emerge]:
            assert self.copy is not None
            with self.copy(tree if root == "target" else self.root) as copy:
                yield self._emerge(copy, self.root, said) if root == "target" else self._emerge(tree, copy, said)

        return Trial(copied, TRIED)

    def _emerge(self, tree: Path, root: Path, said: _Said) -> Emerge:
        own = self.root / "var/lib/goldspawn"
        for name in ("status", "tried"):
            (own / name).mkdir(parents=True, exist_ok=True)
        binds = {
            TARGET: tree,
            TRIED: own / "tried",
            status.FOLDER: own / "status",
            str(configuration.DISTFILES): self.store.distfiles,
            **said.packages,
            str(configuration.BINHOSTS): self.store.binhosts,
        }
        return Emerge(
            TARGET,
            tree,
            builder=root,
            wrapper=tuple(self.enter(root, binds, self._shown)),
            options=options(self.settings, said.target),
            environment=environment(self.settings, said.target),
            log=Counting(self.log, lambda: status.read(own / "status")),
            slowness=self.slowness,
        )

    @property
    def _shown(self) -> dict[str, Path]:
        """The repositories that are not the builder's own, by where it sees them."""
        found = {self._locations[name]: folder for name, folder in self.repositories.items()}
        return {where: folder for where, folder in found.items() if not folder.is_relative_to(self.root)}

    def _configure(self) -> None:
        """Tells the builder's own Portage of the image's repositories and binhosts: BDEPEND may name what is there."""
        made = configuration.files(self.settings.configuration())
        for name in ("repos.conf", "binrepos.conf"):
            file = configuration.ETC / name / "goldspawn.conf"
            if (text := made.get(file)) is not None:
                configuration.place_for(self.root / file).write_text(text)
        base = self.image.foundation.folder
        declared = self.settings.declared(base)
        if self.settings.portage is not None and declared.sections():
            file = configuration.place_for(self.root / configuration.ETC / "repos.conf/goldspawn-folder.conf")
            file.write_text("\n".join(repos_conf.texts_of(base / self.settings.portage / "repos.conf")))
        keys = {f"goldspawn-keys/{one.name}.asc": base / one.key for one in self.settings.repositories if one.key}
        for section in map(declared.__getitem__, declared.sections()):
            if (key := repositories.key_of(section, self.settings, base)) is not None:
                keys[section["sync-openpgp-key-path"].removeprefix("/etc/portage/")] = key
        for name, key in keys.items():
            configuration.place_for(self.root / configuration.ETC / name).write_bytes(key.read_bytes())
