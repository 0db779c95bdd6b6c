"""Ebuild repositories that are synced: a clone for each address, and from it a tree for each state that is asked for.

A clone is only ever changed by `emaint sync`, and no image merges from it: what an image gets is a tree of exactly its
commit, which nobody changes and which stays as long as somebody holds it. All is below one folder:

    NAME-DIGEST/clone        what emaint syncs, on its branch; DIGEST is of the address and of what is demanded of it
    NAME-DIGEST/synced       the commit that emaint brought and verified; its time is when
    NAME-DIGEST/trees/STATE  that commit, or another one of the clone, as plain files; its time is its last use
    NAME-DIGEST.lock         held by whoever changes any of that

Each of them is made aside and renamed, so what a killed process leaves is never taken for whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pipeline import atomic
from pipeline.command import BuildLog, Result, output, run
from pipeline.errors import CommandFailed, GoldspawnError

_OWN = 43200.0
"""Seconds for which what is not looked at for changes is not synced again (Gentoo asks for once a day)."""

_KEPT = 86400.0
"""Seconds that a tree stays after its last use, unless it is held: to make it anew takes seconds."""

CLONE, TREES, SYNCED = "clone", "trees", "synced"


@dataclass(frozen=True)
class Remote:
    """A repository that is synced: `kind` and `uri` are sync-type and sync-uri of repos.conf (portage(5)).

    `commit` None is the newest. `keys` are the OpenPGP keys by one of which commits must be signed, b"" for no check.
    `watched` says that whether it has changed was looked at before.
    """

    name: str
    uri: str
    kind: str = "git"
    commit: str | None = None
    keys: bytes = b""
    watched: bool = False

    @property
    def place(self) -> str:
        """The name of its folder. Pinned ones have a clone with all commits, others one with the newest alone."""
        told = [self.name, self.uri, self.kind, self.commit is not None, hashlib.sha256(self.keys).hexdigest()]
        return f"{self.name}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Syncing:
    """How repositories are synced into `folder`.

    `location` tells where whoever syncs sees a folder that is given to it for a repository; `command` makes a command
    line for it, of the words, the repository's name, and the folder. Repositories may be `max_age` seconds old;
    `slowness` multiplies all time limits.
    """

    folder: Path
    location: Callable[[str, Path], str]
    command: Callable[[list[str], str, Path], list[str]]
    log: BuildLog
    slowness: float
    max_age: float

    def bring(self, wanted: Remote) -> Path:
        """Syncs a repository where that is due; returns a tree of it. Raises `GoldspawnError` that names it."""
        place = self.folder / wanted.place
        with FileLock(f"{place}.lock"):
            (place / TREES).mkdir(parents=True, exist_ok=True)
            state = self._pinned(wanted, place) if wanted.commit is not None else self._newest(wanted, place)
            tree = place / TREES / state
            if not tree.is_dir():
                _clean(place)
                self._make(wanted, place, state)
            os.utime(tree)
        return tree

    def _newest(self, wanted: Remote, place: Path) -> str:
        state = _synced(place)
        there = state is not None and ((place / TREES / state).is_dir() or self._has(wanted, place, state))
        if state is None or not there or not self._fresh(wanted, place):
            return self._sync(wanted, place)
        return state

    def _pinned(self, wanted: Remote, place: Path) -> str:
        assert wanted.commit is not None
        if (place / TREES / wanted.commit).is_dir() or self._vouched(wanted, place):
            return wanted.commit
        self._sync(wanted, place)
        if not self._vouched(wanted, place):
            signed = " that its key vouches for" if wanted.keys else ""
            raise GoldspawnError(
                f"repository {wanted.name}: {wanted.uri} has no commit {wanted.commit}{signed}",
                hint=f"`commit` of repository {wanted.name} in image.toml",
            )
        return wanted.commit

    def _fresh(self, wanted: Remote, place: Path) -> bool:
        # Whether a watched one has changed was looked at; to ask for the whole Gentoo tree costs minutes.
        age = self.max_age if wanted.watched or self.max_age < 0 else max(self.max_age, _OWN)
        return 0 <= time.time() - (place / SYNCED).stat().st_mtime < age  # one of the future tells nothing

    def _vouched(self, wanted: Remote, place: Path) -> bool:
        """Whether the clone has the pinned commit; with keys, only what a verified commit descends from counts.

        What was fetched and refused is in the clone as well.
        """
        newest = _synced(place)
        assert wanted.commit is not None
        if newest is None or not self._has(wanted, place, wanted.commit):
            return False
        ancestry = ["merge-base", "--is-ancestor", wanted.commit, newest]
        return not wanted.keys or self._git(wanted, place, *ancestry, check=False).status == 0

    def _has(self, wanted: Remote, place: Path, commit: str) -> bool:
        if wanted.kind != "git":
            return (place / CLONE).is_dir()
        return self._git(wanted, place, "cat-file", "-e", f"{commit}^{{tree}}", check=False).status == 0

    def _sync(self, wanted: Remote, place: Path) -> str:
        """Has emaint sync the clone, or make a new one where it cannot: a killed git leaves what no git goes on with.

        Returns the state that came.
        """
        clone, fresh = place / CLONE, place / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        if not (clone.is_dir() and self._updated(wanted, clone)):
            fresh.mkdir()
            try:
                self._emaint(wanted, fresh)
            except CommandFailed as error:
                error.hint = f"repository {wanted.name} cannot be synced: look at its address, and at the network"
                raise
            shutil.rmtree(clone, ignore_errors=True)
            fresh.rename(clone)
        if not (clone / "profiles").is_dir():
            raise GoldspawnError(f"repository {wanted.name} cannot be synced: what came is no ebuild repository")
        if wanted.kind == "git":
            state = self._git(wanted, place, "rev-parse", "HEAD").stdout.strip()
        else:
            state = _timestamp(clone)
        atomic.write(place / SYNCED, f"{state}\n")
        return state

    def _updated(self, wanted: Remote, clone: Path) -> bool:
        try:
            self._emaint(wanted, clone)
        except CommandFailed as error:
            self.log.line(f"repository {wanted.name} is fetched anew: {error.message.splitlines()[0]}")
            return False
        return True

    def _emaint(self, wanted: Remote, folder: Path) -> None:
        argv = self.command(["emaint", "sync", "--repo", wanted.name], wanted.name, folder)
        run(argv, log=self.log, timeout=3600 * self.slowness, orphaned="TERM")

    def _make(self, wanted: Remote, place: Path, state: str) -> None:
        """Makes a tree of what the clone has."""
        making = place / TREES / ".making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        if wanted.kind == "git":
            where = self.location(wanted.name, place)
            index = f"GIT_INDEX_FILE={where}/index"
            self._git(wanted, place, "read-tree", state, env=index)
            self._git(wanted, place, "checkout-index", "--all", f"--prefix={where}/{TREES}/.making/", env=index)
        else:
            # rsync puts new files in the place of old ones: those that it replaces stay as they are where they are
            # linked (rsync(1), --inplace).
            how = ["--link"] if wanted.kind in ("rsync", "webrsync") else ["--reflink=auto"]
            argv = ["cp", "--archive", *how, f"{place / CLONE}/.", str(making)]
            run(argv, log=self.log, timeout=3600 * self.slowness)
        if not (making / "profiles").is_dir():
            raise GoldspawnError(f"repository {wanted.name}: commit {state} is no ebuild repository")
        making.rename(place / TREES / state)

    def _git(self, wanted: Remote, place: Path, *arguments: str, check: bool = True, env: str = "") -> Result:
        clone = f"{self.location(wanted.name, place)}/{CLONE}"
        argv = ["env", *([env] if env else []), "git", "-c", f"safe.directory={clone}", "-C", clone, *arguments]
        argv = self.command(argv, wanted.name, place)
        return output(argv, log=self.log, timeout=300 * self.slowness, check=check)


@contextlib.contextmanager
def held(trees: Iterable[Path]) -> Iterator[None]:
    """Keeps others from taking trees away while the block runs; folders that are no such trees are nobody's to take."""
    with contextlib.ExitStack() as stack:
        for tree in trees:
            if state_of(tree) is not None:
                descriptor = os.open(tree, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


def state_of(tree: Path) -> str | None:
    """Which state a tree is of; None for a folder that was not synced."""
    return tree.name if tree.parent.name == TREES and (tree.parent.parent / SYNCED).exists() else None


def _clean(place: Path) -> None:
    """Removes the trees that nobody has used for a while, and what a killed process left."""
    for tree in (place / TREES).iterdir():
        if tree.name.startswith("."):
            shutil.rmtree(tree)
        elif time.time() - tree.stat().st_mtime > _KEPT and not _is_held(tree):
            gone = tree.with_name(f".gone-{tree.name}")
            tree.rename(gone)
            shutil.rmtree(gone)


def _is_held(tree: Path) -> bool:
    descriptor = os.open(tree, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _synced(place: Path) -> str | None:
    try:
        return (place / SYNCED).read_text().strip() or None
    except FileNotFoundError:
        return None


def _timestamp(clone: Path) -> str:
    """A name for the state of a repository that is not of git: by the timestamp that it has, else by the time."""
    file = clone / "metadata/timestamp.chk"
    if not file.is_file():
        return str(time.time_ns())
    return hashlib.sha256(file.read_bytes()).hexdigest()[:40]
