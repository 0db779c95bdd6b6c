"""The ebuild repositories of a build, as folders of this machine: those that are there, and those that are synced.

Synced are those that image.toml takes from git, and those that the builder's own configuration names and its tree
does not hold (a stage3 comes without the Gentoo repository). They are kept in the store.
"""

from __future__ import annotations

import hashlib
from configparser import SectionProxy
from pathlib import Path

from pipeline.bootstrap.gentoo import EbuildRepository, Gentoo
from pipeline.gentoo.syncing import Remote, Syncing, state_of


def of_image(settings: Gentoo, base: Path, syncing: Syncing) -> dict[str, Path]:
    """The repositories that image.toml names, with their folders; `base` is the image's. Raises `GoldspawnError`."""
    return {
        one.name: (base / one.folder).resolve() if one.folder is not None else syncing.bring(_remote(one, base))
        for one in settings.repositories
    }


def _remote(one: EbuildRepository, base: Path) -> Remote:
    assert one.git is not None
    keys = (base / one.key).read_bytes() if one.key is not None else b""
    return Remote(one.name, one.git, commit=one.commit, keys=keys, watched=True)


def remote(section: SectionProxy) -> Remote:
    """What a section of repos.conf says is to be synced."""
    return Remote(section.name, section.get("sync-uri", ""), section.get("sync-type", ""))


def state(folder: Path) -> str:
    """What tells one state of a repository from another: its commit, its timestamp, or its ebuilds and their times."""
    if (synced := state_of(folder)) is not None:
        return synced
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
