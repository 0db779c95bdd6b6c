"""apt-get in a tree: packages from the repositories that the tree itself knows, run inside it by systemd-nspawn."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.command import BuildLog
from pipeline.errors import CommandFailed
from pipeline.machine.nspawn import inside
from pipeline.profile.pool import Archive, Pool, fetched, wanted
from pipeline.secrets import SHOWN_LOGINS

PROGRAM = "usr/bin/apt-get"

_ARCHIVES = "var/cache/apt/archives"
"""Where apt looks for packages before it fetches them: the tree's own, so builds are not in each other's way."""

_NO_SERVICES = "#!/bin/sh\n# Nothing is started while the tree is made.\nexit 101\n"

_OPTIONS = (
    "--quiet", "-oAcquire::Retries=2", "-oAcquire::Languages=none", "-oAcquire::http::Timeout=30",
    "-oDpkg::Use-Pty=0", "-oAPT::Sandbox::User=root",
)  # fmt: skip

_GONE = "E: Failed to fetch "
"""What apt-get says of a package that its lists have and the repository has not any more."""

_SIMULATED = re.compile(r"Inst (?P<package>\S+) \[(?P<installed>\S+)\] \((?P<available>\S+)")


@dataclass(frozen=True)
class Update:
    """A newer version of a package that is installed."""

    package: str
    installed: str
    available: str

    def __str__(self) -> str:
        return f"{self.package} {self.installed} -> {self.available}"


@dataclass(frozen=True)
class Apt:
    """apt-get of the tree at `tree`. `logins` is a folder with files of apt_auth.conf(5), None for none."""

    tree: Path
    log: BuildLog
    slowness: float
    logins: Path | None = None

    def install(self, names: Sequence[str], pool: Pool, *, current: bool = False) -> None:
        """Installs packages by name; those in `pool` are not fetched, and those that are, are kept there.

        Where the tree's lists are `current`, they are not asked for again. Raises `CommandFailed`.
        """
        try:
            with self._without_services():
                if not current:
                    self._update()
                try:
                    self._install(names, pool)
                except CommandFailed as error:
                    if not current or _GONE not in error.tail:
                        raise
                    self.log.line("packages: the repositories have moved on since")
                    self._update()
                    self._install(names, pool)
        except CommandFailed as error:
            if unknown := [name for name in names if f"Unable to locate package {name}" in error.tail]:
                error.hint = (
                    f"profile.packages of image.toml names {', '.join(unknown)}, which no repository of the image has"
                )
            raise
        self._to_pool(pool)
        for left in (self.tree / _ARCHIVES).glob("*.deb"):
            left.unlink()

    def pending(self) -> list[Update]:
        """The packages of which a repository has a newer version. Raises `CommandFailed`."""
        self._update()
        found = (_SIMULATED.match(line) for line in self._told(["--simulate", "dist-upgrade"]))
        return [Update(one["package"], one["installed"], one["available"]) for one in found if one]

    def _install(self, names: Sequence[str], pool: Pool) -> None:
        argv = ["--yes", "--no-install-recommends", "-oDpkg::Options::=--force-confnew",
                "-oAPT::Keep-Downloaded-Packages=true", "install"]  # fmt: skip
        if pool.empty:  # to ask what is wanted costs as much as to decide what is installed
            self.log.line("packages: none were fetched before")
        else:
            # By itself apt prints the first digest that it has, which is MD5.
            asking = [*argv, "--print-uris", "-oAcquire::ForceHash=SHA256", "--", *names]
            self._from_pool(wanted(self._told(asking)), pool)
        self._run([*argv, "--", *names], 600)

    def _update(self) -> None:
        self._run(["--error-on=any", "update"], 120, hint="the mirror is bootstrap.mirror in image.toml")

    def _told(self, words: Sequence[str]) -> list[str]:
        """The lines that apt-get prints."""
        with tempfile.TemporaryFile() as told:
            argv, shown = self._argv(words)
            inside(self.tree, argv, shown=shown, log=self.log, timeout=60 * self.slowness, stdout=told)
            told.seek(0)
            return told.read().decode(errors="replace").splitlines()

    def _run(self, words: Sequence[str], seconds: float, *, hint: str | None = None) -> None:
        argv, shown = self._argv(words)
        inside(self.tree, argv, shown=shown, log=self.log, timeout=seconds * self.slowness, hint=hint)

    def _argv(self, words: Sequence[str]) -> tuple[list[str], dict[str, Path]]:
        """The command, and what of the host it is shown."""
        if self.logins is None:
            return ["apt-get", *_OPTIONS, *words], {}
        argv = ["apt-get", *_OPTIONS, f"-oDir::Etc::netrcparts={SHOWN_LOGINS}/", *words]
        return argv, {SHOWN_LOGINS: self.logins}

    @contextlib.contextmanager
    def _without_services(self) -> Iterator[None]:
        """Nothing is started by packages that are installed in the block."""
        policy = self.tree / "usr/sbin/policy-rc.d"
        if policy.exists():
            yield
            return
        policy.write_text(_NO_SERVICES)
        policy.chmod(0o755)
        try:
            yield
        finally:
            policy.unlink(missing_ok=True)

    def _from_pool(self, archives: Sequence[Archive], pool: Pool) -> None:
        try:
            taken = pool.take(archives, self.tree / _ARCHIVES)
        except OSError as error:  # what cannot be had here can still be fetched
            self.log.line(f"packages: {pool.folder}: {error.strerror}")
            return
        size = sum(archive.size for archive in taken) / 1e6
        self.log.line(f"packages: {len(taken)} of {len(archives)} were fetched before ({size:.1f} MB)")

    def _to_pool(self, pool: Pool) -> None:
        try:
            if pool.keep(fetched(self.tree / _ARCHIVES), self.tree / _ARCHIVES):
                pool.prune()
        except OSError as error:  # the image has what it needs; the next one fetches it again
            self.log.line(f"packages: {pool.folder}: {error.strerror}")
