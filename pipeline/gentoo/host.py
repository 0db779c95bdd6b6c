"""The Portage of a host that is a Gentoo itself: its emerge, its repositories, its sources and binary packages.

What is merged goes into the tree, and what builds it (BDEPEND) into the host, as with `emerge --root` typed by hand.
On a host that is no Gentoo nothing is merged, ever: see `here`.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

from pipeline.gentoo import repositories
from pipeline.gentoo.counting import Counting
from pipeline.gentoo.resolved import Resolved, say_packages
from pipeline.gentoo.syncing import Syncing, held
from pipeline.gentoo.workshop import Copy, Workshop, environment, options
from pipeline.netrc import git_from_file
from pipeline.portage import Emerge, Trial, configuration, repos_conf, status
from pipeline.portage.cycles import Root

RELEASE = Path("/etc/gentoo-release")
"""What every Gentoo has: a file of sys-apps/baselayout."""


def here(release: Path = RELEASE, path: str | None = None) -> str | None:
    """The emerge of this host if it is a Gentoo, else None: `release` is there, and emerge is in `path` (or PATH)."""
    return shutil.which("emerge", path=path) if release.exists() else None


@dataclass(frozen=True)
class HostPortage(Workshop):
    """A workshop that is this host; `program` is its emerge, `variables` are added to the environment of that.

    `copy` copies the tree for what may fail; without it, that is done at once.
    """

    program: str
    copy: Copy | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    spare_builder: ClassVar = True

    @contextlib.contextmanager
    def target(self, tree: Path) -> Iterator[tuple[Emerge, Trial | None]]:
        configuration.check_profile(self.settings.profile, self.repositories, key="bootstrap.profile")
        repository, _, path = self.settings.profile.partition(":")
        profile = self.repositories[repository] / "profiles" / path
        with (
            held(self.repositories.values()),
            _leading_to(tree / configuration.ETC / "make.profile", profile),
            tempfile.TemporaryDirectory(prefix="goldspawn-tried-") as tried,
        ):
            found = Resolved.of(self._plain(tree), tree / configuration.ETC)
            yield self._emerge(tree, found), self._trial(tree, tried, found) if self.copy is not None else None
        if self.settings.share and found.packages != self._own.packages:
            say_packages(tree / configuration.ETC, found.packages)

    def _plain(self, tree: Path) -> Emerge:
        """The host's emerge with its repositories, and no word of ours."""
        told = {**self.variables, "PORTAGE_REPOSITORIES": self._repos_conf(self.repositories, tree)}
        return Emerge.of_command([self.program], str(tree), environment=told, log=self.log, slowness=self.slowness)

    def _emerge(self, tree: Path, found: Resolved) -> Emerge:
        own, plain = self._own, self._plain(tree)
        same = found.packages == own.packages
        told = {
            **environment(self.settings, found),
            **plain.environment,
            "DISTDIR": own.variables["DISTDIR"],
            "PKGDIR": own.variables["PKGDIR"] if same else str(self.store.packages(found.packages)),
        }
        log = Counting(self.log, partial(status.read, Path(status.FOLDER), str(tree)))
        return replace(plain, environment=told, options=options(self.settings, found), log=log)

    def _trial(self, tree: Path, tried: str, found: Resolved) -> Trial:
        @contextlib.contextmanager
        def copied(root: Root) -> Iterator[Emerge]:
            assert self.copy is not None
            with self.copy(tree) as copy:
                yield self._emerge(copy, found)

        return Trial(copied, tried)

    def find_repositories(self) -> dict[str, Path]:
        syncing = Syncing(
            self.store.repositories, lambda name, folder: str(folder), self._syncing,
            self.log, self.slowness, self.max_age,
        )  # fmt: skip
        own = repos_conf.locations(repos_conf.parsed([self._own.variables["PORTAGE_REPOSITORIES"]]))
        base = self.image.foundation.folder
        found = {
            **{name: Path(location) for name, location in own.items()},
            **repositories.of_image(self.settings, base, syncing),
        }
        declared = self.settings.declared(base)
        for name, location in repos_conf.locations(declared).items():
            if name not in found:
                found[name] = Path(location)
                if not repositories.is_filled(found[name]):
                    found[name] = repositories.of_section(declared[name], self.settings, base, syncing)
        return found

    @cached_property
    def _own(self) -> Resolved:
        """The host's own configuration."""
        emerge = Emerge.of_command([self.program], "/", environment=self.variables, log=self.log)
        etc = (emerge.builder or Path("/")) / configuration.ETC
        found = Resolved.of(emerge, etc, "DISTDIR", "PORTAGE_REPOSITORIES", at="builder")
        if not found.variables["DISTDIR"]:
            emerge.portageq("envvar", "DISTDIR", at="builder")  # says why
        return found

    def _syncing(self, argv: list[str], name: str, folder: Path) -> list[str]:
        """A command line for a repository that is synced to `folder`; programs of Portage are those beside emerge."""
        beside = Path(self.program).with_name(argv[0])
        program = str(beside) if beside.exists() else argv[0]
        git = git_from_file(str(self.logins) if self.logins is not None else None)
        told = {**self.variables, **git, "PORTAGE_REPOSITORIES": self._repos_conf({name: folder})}
        return ["env", *(f"{variable}={value}" for variable, value in told.items()), program, *argv[1:]]

    def _repos_conf(self, folders: Mapping[str, Path], tree: Path | None = None) -> str:
        """What Portage takes instead of all repos.conf: the host's, the image's and the tree's, each where it is here.

        In the machine a repository of the image will be in /var/db/repos; the host may have it anywhere.
        """
        ours = configuration.files(self.settings.configuration()).get(configuration.ETC / "repos.conf/goldspawn.conf")
        base, own = self.image.foundation.folder, self.settings.portage
        texts = [self._own.variables["PORTAGE_REPOSITORIES"]]
        texts += repos_conf.texts_of(base / own / "repos.conf") if own is not None else []
        texts += repos_conf.texts_of(tree / configuration.ETC / "repos.conf") if tree is not None else []
        made = repos_conf.parsed([*texts, *([ours] if ours is not None else [])])
        for name, folder in folders.items():
            if name in made:
                made[name]["location"] = str(folder)
        for one in self.settings.repositories:
            if one.key is not None:
                made[one.name]["sync-openpgp-key-path"] = str((base / one.key).resolve())
        for name in made.sections():
            if (key := repositories.key_of(made[name], self.settings, base)) is not None:
                made[name]["sync-openpgp-key-path"] = str(key.resolve())
        text = io.StringIO()
        made.write(text)
        return text.getvalue().strip() + "\n"


@contextlib.contextmanager
def _leading_to(link: Path, profile: Path) -> Iterator[None]:
    """The link make.profile leads to where the profile is on this host; afterwards to where the machine has it."""
    machine = link.readlink()
    link.unlink()
    link.symlink_to(profile)
    try:
        yield
    finally:
        link.unlink()
        link.symlink_to(machine)
