"""The ebuild repositories of a build, as folders of this machine: those that are there, and those that are synced.

Synced are those that image.toml takes from git, and those that a repos.conf names (the image's own, or the builder's)
and the builder does not hold: a stage3 comes without the Gentoo repository. They are kept in the store.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from configparser import SectionProxy
from pathlib import Path

from pipeline.bootstrap.gentoo import EbuildRepository, Gentoo
from pipeline.errors import InputError
from pipeline.gentoo.syncing import Remote, Syncing, state_of
from pipeline.portage import repos_conf


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


def of_section(section: SectionProxy, settings: Gentoo, base: Path, syncing: Syncing) -> Path:
    """The folder of a repository that a repos.conf names, and that is not where emerge runs.

    It is synced, or it is a folder of this machine that the image's own repos.conf names. Raises `GoldspawnError`.
    """
    location = Path(section.get("location", ""))
    if not location.is_absolute():
        raise InputError(f"repos.conf: repository {section.name}: its location is no absolute path: {location}")
    if not repos_conf.is_synced(section) and section.name in settings.declared(base):
        if is_filled(location):
            return location
        raise InputError(
            f"{settings.portage}/repos.conf of the image: repository {section.name}: there is no {location}",
            hint="where to fetch it would be said by `sync-type = git` and `sync-uri`",
        )
    key = key_of(section, settings, base)
    verify = section.get("sync-git-verify-commit-signature", "no").lower() in ("yes", "true")
    keys = (key.read_bytes() if key is not None else b"default") if verify else b""
    return syncing.bring(Remote(section.name, section.get("sync-uri", ""), section.get("sync-type", ""), keys=keys))


def is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def key_of(section: SectionProxy, settings: Gentoo, base: Path) -> Path | None:
    """The file of the image's own folder that a machine will have as sync-openpgp-key-path of a repository."""
    path = Path(section.get("sync-openpgp-key-path", ""))
    if settings.portage is None or not path.is_relative_to("/etc/portage"):
        return None
    file = base / settings.portage / path.relative_to("/etc/portage")
    return file if file.is_file() else None


def state(folder: Path) -> str:
    """What tells one state of a repository from another.

    Its commit where it was synced, its tree of git where nothing in it differs from that, its timestamp where it is no
    clone; else names and contents of all its files.
    """
    if (synced := state_of(folder)) is not None:
        return synced
    timestamp = folder / "metadata/timestamp.chk"
    if timestamp.is_file() and not (folder / ".git").exists():
        return timestamp.read_text(errors="replace").strip()
    return _committed(folder) or contents(folder)


def contents(folder: Path) -> str:
    """The digest of all files below a folder; without what git keeps, and the cache that Portage checks by itself."""
    digest = hashlib.sha256()
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in (".git", "md5-cache"))
        for name in sorted([*files, *(name for name in folders if Path(parent, name).is_symlink())]):
            path = Path(parent, name)
            data = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            told = (str(path.relative_to(folder)), path.is_symlink(), hashlib.sha256(data).hexdigest())
            digest.update(repr(told).encode())
    return digest.hexdigest()


def _committed(folder: Path) -> str | None:
    """The tree that git has for a folder; None where there is none, or anything in it is not as committed."""
    git = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", str(folder)]
    asked = (["rev-parse", "--verify", "--quiet", "HEAD:./"], ["status", "--porcelain", "--ignored", "--", "."])
    try:
        tree, changes = [subprocess.run([*git, *one], capture_output=True, text=True, timeout=300) for one in asked]
    except (OSError, subprocess.TimeoutExpired):
        return None
    return tree.stdout.strip() if tree.returncode == changes.returncode == 0 and not changes.stdout else None
