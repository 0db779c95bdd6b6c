"""What is different between two versions of an image, by their manifests."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifact import manifest
from pipeline.errors import InputError
from pipeline.machine.timing import BootTimes, slower


def since(
    folder: Path,
    listed: tuple[manifest.Package, ...],
    boot: manifest.Boot | None,
    version: str,
    place: manifest.Place,
) -> manifest.Changes | None:
    """What is new against the artifact that lies in `folder`; None where there is none; of this version, what it says.

    How the two boot is told apart only where both did so in a `place` of the same kind: one that emulates is ten times
    slower.
    """
    try:
        before = manifest.load(folder)
    except InputError:
        return None
    if before.version == version:
        return before.changes
    old, new = ({_name(one): one.version for one in packages} for packages in (before.packages, listed))
    return manifest.Changes(
        before.version,
        added={name: new[name] for name in sorted(new.keys() - old.keys())},
        removed={name: old[name] for name in sorted(old.keys() - new.keys())},
        updated={name: (old[name], new[name]) for name in sorted(old.keys() & new.keys()) if old[name] != new[name]},
        boots=_boots(before.boot, boot, before.version) if before.place == place else "",
    )


def _name(package: manifest.Package) -> str:
    return f"{package.name}:{package.architecture}" if package.architecture else package.name


def _boots(before: manifest.Boot | None, now: manifest.Boot | None, version: str) -> str:
    if before is None or now is None:
        return ""
    return slower(BootTimes(now.seconds, now.units), BootTimes(before.seconds, before.units), version)
