"""The machine's packages, by the tree's own package manager inside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.command import BuildLog
from pipeline.errors import GoldspawnError
from pipeline.profile import apt
from pipeline.profile.apt import Apt, Update
from pipeline.profile.pool import Pool

_MANAGERS = {apt.PROGRAM: Apt}
"""A program whose presence in the tree tells the package manager."""


def install(
    tree: Path,
    names: Sequence[str],
    *,
    pool: Pool,
    log: BuildLog,
    slowness: float,
    logins: Path | None = None,
    current: bool = False,
) -> None:
    """Installs packages by name; those in `pool` are not fetched, and those that are, are kept there.

    `logins` is a folder with files of apt_auth.conf(5). `current` says that the tree knows what its repositories have
    now, and need not ask them. Raises `CommandFailed`, or `GoldspawnError` for a tree without a known manager.
    """
    if names:
        _manager(tree, "profile.packages")(tree, log, slowness, logins).install(names, pool, current=current)


def pending(tree: Path, *, log: BuildLog, slowness: float, logins: Path | None = None) -> list[Update]:
    """The packages of which the tree's own repositories have a newer version. The tree is changed: it learns of them.

    Raises as `install`.
    """
    return _manager(tree, "checks.updates")(tree, log, slowness, logins).pending()


def _manager(tree: Path, key: str) -> type[Apt]:
    for program, manager in _MANAGERS.items():
        if (tree / program).exists():
            return manager
    raise GoldspawnError(
        f"{key}: the tree has no package manager that goldspawn knows", hint=f"known: {', '.join(_MANAGERS)}"
    )
