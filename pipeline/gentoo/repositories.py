"""The ebuild repositories of a build, as folders to show to the builder: those of this machine, and synced ones.

Synced are those that image.toml takes from git, and those that the builder's own configuration names and its tree
does not hold (a stage3 comes without the Gentoo repository). They are kept in the store.
"""

from __future__ import annotations

import configparser
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from pipeline.bootstrap.gentoo import EbuildRepository
from pipeline.command import Result, output, run
from pipeline.errors import CommandFailed, GoldspawnError
from pipeline.portage import configuration

if TYPE_CHECKING:
    from pipeline.gentoo.workshop import Workshop

_STAMP = ".goldspawn-synced"


def folders(workshop: Workshop) -> dict[str, Path]:
    """All repositories of the image and of its builder by name, with their folders as we see them.

    Raises `GoldspawnError` that names one which cannot be synced.
    """
    found: dict[str, Path] = {}
    for one in workshop.settings.repositories:
        if one.folder is not None:
            found[one.name] = (workshop.image.folder / one.folder).resolve()
        else:
            found[one.name] = _Synced(workshop, one.name).bring(one)
    for name, location in _configured(workshop.root).items():
        inside = workshop.root / location.lstrip("/")
        if name not in found:
            there = inside.is_dir() and any(inside.iterdir())
            found[name] = inside if there else _Synced(workshop, name).bring(None)
    return found


def state(folder: Path) -> str:
    """What tells one state of a repository from another: its commit, its timestamp, or its ebuilds and their times."""
    for name in ("metadata/timestamp.chk", "metadata/timestamp.x"):
        if (folder / name).is_file():
            return (folder / name).read_text(errors="replace").strip()
    head = folder / ".git/HEAD"
    if head.is_file() and not head.read_text().startswith("ref:"):
        return head.read_text().strip()
    ebuilds = sorted((path.name, path.stat().st_mtime_ns) for path in folder.rglob("*.ebuild"))
    return hashlib.sha256(repr(ebuilds).encode()).hexdigest()


def _configured(root: Path) -> dict[str, str]:
    """The repositories that the builder's own configuration names, with their locations."""
    texts = []
    for path in (root / "usr/share/portage/config/repos.conf", root / configuration.ETC / "repos.conf"):
        files = sorted(path.glob("*")) if path.is_dir() else [path] if path.is_file() else []
        texts += [file.read_text(errors="replace") for file in files if not file.name.startswith(".")]
    parser = configparser.ConfigParser(strict=False, interpolation=None, default_section="DEFAULT")
    try:
        for text in texts:
            parser.read_string(text)
    except configparser.Error as error:
        raise GoldspawnError(f"the builder's repos.conf cannot be read: {error}") from error
    return {name: parser[name]["location"] for name in parser.sections() if "location" in parser[name]}


class _Synced:
    """One repository that is synced by the builder's own `emaint sync`."""

    def __init__(self, workshop: Workshop, name: str) -> None:
        self._workshop = workshop
        self._folder = workshop.store.repositories / name
        self._name = name

    def bring(self, wanted: EbuildRepository | None) -> Path:
        """Syncs it where that is due; returns its folder."""
        with FileLock(f"{self._folder}.lock"):
            self._folder.mkdir(exist_ok=True)
            commit = wanted.commit if wanted is not None else None
            if commit is not None:
                self._bring_commit(commit)
            elif not self._fresh():
                self._sync()
        return self._folder

    def _fresh(self) -> bool:
        stamp = self._folder / _STAMP
        return stamp.exists() and time.time() - stamp.stat().st_mtime < self._workshop.max_age

    def _bring_commit(self, commit: str) -> None:
        if self._git("rev-parse", "HEAD", check=False).stdout.strip() == commit:
            return
        if self._git("cat-file", "-e", f"{commit}^{{commit}}", check=False).status != 0:
            self._sync()
        try:
            self._git("checkout", "--quiet", "--detach", commit)
        except CommandFailed as error:
            error.hint = f"repository {self._name}: its `commit` in image.toml is none of {self._name}'s"
            raise

    def _sync(self) -> None:
        try:
            run(self._argv("emaint", "sync", "--repo", self._name), log=self._workshop.log,
                timeout=3600 * self._workshop.slowness, orphaned="TERM")  # fmt: skip
        except CommandFailed as error:
            error.hint = f"repository {self._name} cannot be synced: look at its address, and at the network"
            raise
        if not (self._folder / "profiles").is_dir():
            raise GoldspawnError(f"repository {self._name} cannot be synced: what came is no ebuild repository")
        (self._folder / _STAMP).touch()

    def _git(self, *arguments: str, check: bool = True) -> Result:
        where = str(configuration.REPOSITORIES / self._name)
        argv = self._argv("git", "-c", f"safe.directory={where}", "-C", where, *arguments)
        return output(argv, log=self._workshop.log, timeout=300 * self._workshop.slowness, check=check)

    def _argv(self, *command: str) -> list[str]:
        return self._workshop.command([*command], {str(configuration.REPOSITORIES / self._name): self._folder})
