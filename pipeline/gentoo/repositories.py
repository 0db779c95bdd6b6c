"""The ebuild repositories of a build, as folders of this machine: those that are there, and those that are synced.

Synced are those that image.toml takes from git, and those that the builder's own configuration names and its tree
does not hold (a stage3 comes without the Gentoo repository). They are kept in the store.
"""

from __future__ import annotations

import configparser
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pipeline.bootstrap.gentoo import EbuildRepository, Gentoo
from pipeline.command import BuildLog, Result, output, run
from pipeline.errors import CommandFailed, GoldspawnError

_OWN = 43200.0
"""Seconds for which what the builder's own configuration names is not synced again (Gentoo asks for once a day)."""

STAMP = ".goldspawn-synced"
"""In a repository that was synced: when, by its time."""


@dataclass(frozen=True)
class Syncing:
    """How repositories are synced into `folder`, one folder a name.

    `location` tells where whoever syncs sees such a folder, `command` is a command line for it, given the folder that
    it is about. They may be `max_age` seconds old; `slowness` multiplies all time limits.
    """

    folder: Path
    location: Callable[[Path], str]
    command: Callable[[list[str], Path], list[str]]
    log: BuildLog
    slowness: float
    max_age: float

    def bring(self, name: str, wanted: EbuildRepository | None = None) -> Path:
        """Syncs one repository where that is due; returns its folder. Raises `GoldspawnError` that names it."""
        folder = self.folder / name
        with FileLock(f"{folder}.lock"):
            folder.mkdir(exist_ok=True)
            if wanted is not None and wanted.commit is not None:
                self._bring_commit(folder, wanted.commit)
            elif not self._fresh(folder, declared=wanted is not None):
                self._sync(folder)
        return folder

    def _fresh(self, folder: Path, *, declared: bool) -> bool:
        stamp = folder / STAMP
        # Whether a declared one has changed was looked at; to ask for the whole Gentoo tree costs minutes.
        age = self.max_age if declared or self.max_age < 0 else max(self.max_age, _OWN)
        return stamp.exists() and 0 <= time.time() - stamp.stat().st_mtime < age  # one of the future tells nothing

    def _bring_commit(self, folder: Path, commit: str) -> None:
        synced = (folder / STAMP).exists()  # else what is there may be what was refused
        if synced and self._git(folder, "rev-parse", "HEAD", check=False).stdout.strip() == commit:
            return
        if not synced or not self._has(folder, commit):
            self._sync(folder)
        if not self._has(folder, commit):  # emaint fetches the newest commit and none before it
            self._git(folder, "fetch", "--quiet", "--unshallow", check=False)
        try:
            self._git(folder, "checkout", "--quiet", "--detach", commit)
        except CommandFailed as error:
            error.hint = f"repository {folder.name}: its `commit` in image.toml is none of {folder.name}'s"
            raise

    def _has(self, folder: Path, commit: str) -> bool:
        return self._git(folder, "cat-file", "-e", f"{commit}^{{tree}}", check=False).status == 0

    def _sync(self, folder: Path) -> None:
        argv = self.command(["emaint", "sync", "--repo", folder.name], folder)
        try:
            run(argv, log=self.log, timeout=3600 * self.slowness, orphaned="TERM")
        except CommandFailed as error:
            error.hint = f"repository {folder.name} cannot be synced: look at its address, and at the network"
            raise
        if not (folder / "profiles").is_dir():
            raise GoldspawnError(f"repository {folder.name} cannot be synced: what came is no ebuild repository")
        (folder / STAMP).touch()

    def _git(self, folder: Path, *arguments: str, check: bool = True) -> Result:
        where = self.location(folder)
        argv = self.command(["git", "-c", f"safe.directory={where}", "-C", where, *arguments], folder)
        return output(argv, log=self.log, timeout=300 * self.slowness, check=check)


def of_image(settings: Gentoo, base: Path, syncing: Syncing) -> dict[str, Path]:
    """The repositories that image.toml names, with their folders; `base` is the image's. Raises `GoldspawnError`."""
    return {
        one.name: (base / one.folder).resolve() if one.folder is not None else syncing.bring(one.name, one)
        for one in settings.repositories
    }


def state(folder: Path) -> str:
    """What tells one state of a repository from another: its commit, its timestamp, or its ebuilds and their times."""
    for name in ("metadata/timestamp.chk", "metadata/timestamp.x"):
        if (folder / name).is_file():
            return (folder / name).read_text(errors="replace").strip()
    if (commit := _commit(folder / ".git")) is not None:
        return commit
    ebuilds = sorted((path.name, path.stat().st_mtime_ns) for path in folder.rglob("*.ebuild"))
    return hashlib.sha256(repr(ebuilds).encode()).hexdigest()


def _commit(git: Path) -> str | None:
    """The commit that is checked out (gitrepository-layout(5))."""
    if not (git / "HEAD").is_file():
        return None
    name = (git / "HEAD").read_text().strip()
    if not name.startswith("ref: "):
        return name
    name = name.removeprefix("ref: ")
    if (git / name).is_file():
        return (git / name).read_text().strip()
    packed = (git / "packed-refs").read_text().splitlines() if (git / "packed-refs").is_file() else []
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)


def texts_of(*places: Path) -> list[str]:
    """The texts of repos.conf at each of the places: a file, a folder of files, or nothing (portage(5))."""
    files: list[Path] = []
    for place in places:
        files += sorted(place.glob("*")) if place.is_dir() else [place] if place.is_file() else []
    return [file.read_text(errors="replace") for file in files if not file.name.startswith(".")]


def parsed(texts: Iterable[str]) -> configparser.ConfigParser:
    """Texts of repos.conf as one: later ones win. Raises `GoldspawnError`."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, default_section="DEFAULT")
    try:
        for text in texts:
            parser.read_string(text)
    except configparser.Error as error:
        raise GoldspawnError(f"repos.conf cannot be read: {error}") from error
    return parser


def locations(parser: configparser.ConfigParser) -> Mapping[str, str]:
    """The repositories of a repos.conf, with where they are."""
    return {name: parser[name]["location"] for name in parser.sections() if "location" in parser[name]}
