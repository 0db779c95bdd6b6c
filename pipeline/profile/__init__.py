"""What makes a root file system this machine: files, packages, accounts, settings, units, commands; then the seal.

`apply` works on a mounted tree in which nothing runs; only packages and the image's own commands run inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.command import BuildLog
from pipeline.image import Image
from pipeline.machine.nspawn import inside
from pipeline.profile import accounts, files, packages, settings
from pipeline.profile.pool import Pool
from pipeline.profile.seal import seal

__all__ = ["Pool", "apply", "seal"]


Install = Callable[[Path, Sequence[str]], object]


def apply(
    image: Image, tree: Path, *, pool: Pool, log: BuildLog, slowness: float, install: Install | None = None
) -> None:
    """Makes `tree` the machine that `image` describes, all but the seal.

    `pool` keeps fetched packages for all images; `install` brings packages into the tree where it has no package
    manager of its own.

    Packages come before files, so that a file of the image wins over a package's; accounts before files' owners and
    commands need them; commands last, since they may need anything.
    """
    profile = image.profile
    if install is not None and profile.packages:
        install(tree, profile.packages)
    else:
        packages.install(tree, profile.packages, pool=pool, log=log, slowness=slowness)
    accounts.create(tree, image, log=log, slowness=slowness)
    if image.root is not None:
        files.copy(image.root, tree, log=log)
    settings.hostname(tree, profile.hostname or image.name)
    settings.locale(tree, profile.locale)
    settings.timezone(tree, profile.timezone)
    settings.units(tree, profile, log=log)
    settings.no_questions(tree)
    for command in profile.run:
        inside(tree, ["/bin/sh", "-ec", command], log=log, timeout=600 * slowness, hint="the command is in profile.run")
