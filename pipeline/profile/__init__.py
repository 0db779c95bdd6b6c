"""What makes a root file system this machine: packages; then accounts, files, settings, units, commands; then the seal.

All of it works on a mounted tree in which nothing runs; only packages and the image's own commands run inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.command import BuildLog
from pipeline.image import Image
from pipeline.machine.nspawn import inside
from pipeline.profile import accounts, files, packages, settings
from pipeline.profile.pool import Pool
from pipeline.profile.seal import seal
from pipeline.secrets import INSIDE_AT

__all__ = ["Pool", "apply", "packages", "seal"]


def apply(image: Image, tree: Path, *, secrets: Mapping[str, Path] = {}, log: BuildLog, slowness: float) -> None:
    """Makes `tree`, in which the image's packages are, the machine that `image` describes; all but the seal.

    Packages come before files, so that a file of the image wins over a package's; accounts before files' owners and
    commands need them; commands last, since they may need anything. They find the files `secrets` in /run/secrets.
    """
    profile = image.profile
    accounts.create(tree, image, log=log, slowness=slowness)
    if image.root is not None:
        files.copy(image.root, tree, log=log)
    settings.hostname(tree, profile.hostname or image.name)
    settings.locale(tree, profile.locale)
    settings.timezone(tree, profile.timezone)
    settings.units(tree, profile, log=log)
    settings.no_questions(tree)
    shown = {f"{INSIDE_AT}/{name}": path for name, path in secrets.items()}
    for command in profile.run:
        argv = ["/bin/sh", "-ec", command]
        inside(tree, argv, shown=shown, log=log, timeout=600 * slowness, hint="the command is in profile.run")
