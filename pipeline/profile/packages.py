"""The machine's packages, installed by the tree's own package manager inside it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.command import BuildLog
from pipeline.errors import CommandFailed, GoldspawnError
from pipeline.machine.nspawn import inside
from pipeline.profile.pool import Archive, Pool, fetched, wanted

_ARCHIVES = "var/cache/apt/archives"
"""Where apt looks for packages before it fetches them: the tree's own, so builds are not in each other's way."""

_NO_SERVICES = "#!/bin/sh\n# Nothing is started while the tree is made.\nexit 101\n"


def install(tree: Path, names: Sequence[str], *, pool: Pool, log: BuildLog, slowness: float) -> None:
    """Installs packages by name; those in `pool` are not fetched, and those that are, are kept there.

    Raises `CommandFailed`, or `GoldspawnError` for a tree without a known manager.
    """
    if names:
        _manager(tree, "profile.packages").install(tree, names, pool, log, slowness)


@dataclass(frozen=True)
class Update:
    """A newer version of a package that is installed."""

    package: str
    installed: str
    available: str

    def __str__(self) -> str:
        return f"{self.package} {self.installed} -> {self.available}"


def pending(tree: Path, *, log: BuildLog, slowness: float) -> list[Update]:
    """The packages of which the tree's own repositories have a newer version. The tree is changed: it learns of them.

    Raises `CommandFailed`, or `GoldspawnError` for a tree without a known manager.
    """
    return _manager(tree, "checks.updates").pending(tree, log, slowness)


_BOUNDED = (
    "-oAcquire::Retries=2",
    "-oAcquire::Languages=none",
    "-oAcquire::http::Timeout=30",
    "-oDpkg::Use-Pty=0",
    "-oAPT::Sandbox::User=root",
)


def _update(tree: Path, log: BuildLog, slowness: float) -> None:
    inside(tree, ["apt-get", "--quiet", *_BOUNDED, "--error-on=any", "update"], log=log, timeout=120 * slowness,
           hint="the mirror is bootstrap.mirror in image.toml")  # fmt: skip


def _apt_pending(tree: Path, log: BuildLog, slowness: float) -> list[Update]:
    _update(tree, log, slowness)
    with tempfile.TemporaryFile() as told:
        asking = ["apt-get", "--quiet", *_BOUNDED, "--simulate", "dist-upgrade"]
        inside(tree, asking, log=log, timeout=60 * slowness, stdout=told)
        told.seek(0)
        lines = told.read().decode(errors="replace").splitlines()
    found = (_SIMULATED.match(line) for line in lines)
    return [Update(one["package"], one["installed"], one["available"]) for one in found if one]


_SIMULATED = re.compile(r"Inst (?P<package>\S+) \[(?P<installed>\S+)\] \((?P<available>\S+)")


def _apt(tree: Path, names: Sequence[str], pool: Pool, log: BuildLog, slowness: float) -> None:
    policy = tree / "usr/sbin/policy-rc.d"
    fresh = not policy.exists()
    if fresh:
        policy.write_text(_NO_SERVICES)
        policy.chmod(0o755)
    try:
        _update(tree, log, slowness)
        install = ["apt-get", "--quiet", *_BOUNDED, "--yes", "--no-install-recommends",
                   "-oDpkg::Options::=--force-confnew", "-oAPT::Keep-Downloaded-Packages=true", "install"]  # fmt: skip
        if pool.empty:  # to ask what is wanted costs as much as to decide what is installed
            log.line("packages: none were fetched before")
        else:
            with tempfile.TemporaryFile() as told:
                # By itself apt prints the first digest that it has, which is MD5.
                asking = [*install, "--print-uris", "-oAcquire::ForceHash=SHA256", "--", *names]
                inside(tree, asking, log=log, timeout=60 * slowness, stdout=told)
                told.seek(0)
                archives = wanted(told.read().decode(errors="replace").splitlines())
            _from_pool(tree, archives, pool, log)
        inside(tree, [*install, "--", *names], log=log, timeout=600 * slowness)
        _to_pool(tree, pool, log)
        for left in (tree / _ARCHIVES).glob("*.deb"):
            left.unlink()
    except CommandFailed as error:
        unknown = [name for name in names if f"Unable to locate package {name}" in error.tail]
        if unknown:
            error.hint = (
                f"profile.packages of image.toml names {', '.join(unknown)}, which no repository of the image has"
            )
        raise
    finally:
        if fresh:
            policy.unlink(missing_ok=True)


def _from_pool(tree: Path, archives: Sequence[Archive], pool: Pool, log: BuildLog) -> None:
    try:
        taken = pool.take(archives, tree / _ARCHIVES)
    except OSError as error:  # what cannot be had here can still be fetched
        log.line(f"packages: {pool.folder}: {error.strerror}")
        return
    size = sum(archive.size for archive in taken) / 1e6
    log.line(f"packages: {len(taken)} of {len(archives)} were fetched before ({size:.1f} MB)")


def _to_pool(tree: Path, pool: Pool, log: BuildLog) -> None:
    try:
        kept = pool.keep(fetched(tree / _ARCHIVES), tree / _ARCHIVES)
        if kept:
            pool.prune()
    except OSError as error:  # the image has what it needs; the next one fetches it again
        log.line(f"packages: {pool.folder}: {error.strerror}")


class _Manager(NamedTuple):
    install: Callable[[Path, Sequence[str], Pool, BuildLog, float], None]
    pending: Callable[[Path, BuildLog, float], list[Update]]


_MANAGERS = {"usr/bin/apt-get": _Manager(_apt, _apt_pending)}
"""A program whose presence in the tree tells the package manager, and what is done with it."""


def _manager(tree: Path, key: str) -> _Manager:
    for program, manager in _MANAGERS.items():
        if (tree / program).exists():
            return manager
    raise GoldspawnError(
        f"{key}: the tree has no package manager that goldspawn knows", hint=f"known: {', '.join(_MANAGERS)}"
    )
