"""Which packages are installed in a tree, as its own package database says, without running anything in it.

A further database is one function here, under `reader`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import InputError


class Package(NamedTuple):
    """A package as its own database writes it."""

    name: str
    version: str
    architecture: str


Reader = Callable[[Path], list[Package]]

_READERS: dict[str, Reader] = {}


def reader(database: str) -> Callable[[Reader], Reader]:
    """Registers a function that reads a package database; `database` is its path below the root of a tree."""

    def register(read: Reader) -> Reader:
        _READERS[database] = read
        return read

    return register


def installed(root: Path) -> list[Package]:
    """The packages installed in the tree at `root`, sorted; none if it has no database that we know.

    Raises `InputError` if a database cannot be read.
    """
    found: list[Package] = []
    for database, read in _READERS.items():
        path = root / database
        if not path.exists():
            continue
        if not path.resolve().is_relative_to(root.resolve()):
            # An absolute link in the tree would have us read the database of the machine we run on.
            raise InputError(f"{path} leads out of the tree, to {path.resolve()}")
        try:
            found += read(path)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} cannot be read as a package database: {error}") from error
    return sorted(set(found))


@reader("var/lib/dpkg/status")
def dpkg(status: Path) -> list[Package]:
    """Debian and its kin: paragraphs of `Key: value` lines, deb-control(5).

    Installed is what `dpkg-query -l` lists as `ii` or `hi`.
    """
    packages = []
    for paragraph in status.read_text(encoding="utf-8", errors="replace").split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if line.startswith(("Package: ", "Status: ", "Version: ", "Architecture: "))
        )
        if fields and fields.get("Status", "").endswith(" installed"):
            packages.append(Package(fields["Package"], fields["Version"], fields["Architecture"]))
    return packages


@reader("var/db/pkg")
def portage(database: Path) -> list[Package]:
    """Gentoo: a directory CATEGORY/NAME-VERSION for each package, with a file for each fact (PMS, chapter 14)."""
    packages = []
    for pf in sorted(database.glob("*/[!-]*/PF")):  # what begins with -MERGING- is no package yet
        name = re.fullmatch(
            r"(.+?)-(\d+(?:\.\d+)*[a-z]?(?:_(?:alpha|beta|pre|rc|p)\d*)*(?:-r\d+)?)", pf.read_text().strip()
        )
        if name is None:
            raise ValueError(f"{pf.parent.name} is no package with a version")
        chost = pf.with_name("CHOST")
        architecture = chost.read_text().split("-")[0] if chost.exists() else "all"
        packages.append(Package(f"{pf.parent.parent.name}/{name[1]}", name[2], architecture.strip()))
    return packages
