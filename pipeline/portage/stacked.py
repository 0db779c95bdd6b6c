"""Files of a profile, stacked as Portage stacks them: those of its parents first, each line added or taken away.

Portage itself reads `packages.build` for nobody: catalyst does, to make a stage1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.errors import InputError


def stacked(profile: str, name: str, repositories: Mapping[str, Path]) -> list[str]:
    """The lines of all files `name` of a profile ("repository:path") and its parents, each once, in their order.

    `-line` takes an earlier line away, `-*` all of them (portage(5), incremental files). Raises `InputError` for a
    parent that does not exist.
    """
    found: dict[str, None] = {}
    repository, _, path = profile.partition(":")
    for folder in _chain(repositories[repository] / "profiles" / path, repositories, ()):
        for line in _lines(folder / name):
            if line == "-*":
                found.clear()
            elif line.startswith("-"):
                found.pop(line[1:], None)
            else:
                found[line] = None
    return list(found)


def _chain(folder: Path, repositories: Mapping[str, Path], below: tuple[Path, ...]) -> Iterator[Path]:
    """A profile after all that it stands on."""
    for line in _lines(folder / "parent"):
        name, colon, path = line.partition(":")
        if not colon:
            parent = (folder / line).resolve()
        elif name:
            parent = repositories.get(name, Path("/nowhere")) / "profiles" / path
        else:
            parent = _home(folder) / path
        if not parent.is_dir() or parent in below:
            raise InputError(f"the profile {folder} has a parent that does not exist: {line}")
        yield from _chain(parent, repositories, (*below, folder))
    yield folder


def _home(folder: Path) -> Path:
    """The folder `profiles` in which a profile stands."""
    return next(path for path in (folder, *folder.parents) if (path / "repo_name").is_file())


def _lines(place: Path) -> list[str]:
    """The lines of a file, or of all files of a folder (profile format portage-2), without comments."""
    files = sorted(place.iterdir()) if place.is_dir() else [place] if place.is_file() else []
    lines = [line.split("#")[0].strip() for file in files for line in file.read_text(errors="replace").splitlines()]
    return [line for line in lines if line]
