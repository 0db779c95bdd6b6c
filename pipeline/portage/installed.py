"""What is merged in a root, read from its package database (R/var/db/pkg, a folder a package, a file a fact).

Reads only; the files are those that Portage 3.0.57 to 3.0.83 write.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.portage.cycles import Package, Root
from pipeline.portage.elf import exports

DATABASE = Path("var/db/pkg")

_UNSEEN = re.compile(r"/usr/share/(?:doc|man|info|gtk-doc|locale)/|/usr/lib/debug/|/var/|\.pyc$")
"""Files at which no build of another package looks."""

_TOKEN = re.compile(
    r"[!<>=~]*(?P<cp>[A-Za-z0-9+_][\w+.-]*/[\w+-]+?)(?P<version>-\d[^:\s\[]*)?(?::(?P<slot>[^\s\[]*))?(?:\[\S*)?"
)


@dataclass(frozen=True)
class Need:
    """One atom of a dependency: whom it asks for, and its slot as it is written, with `:=` bound or not."""

    key: str
    slot: str

    @property
    def unbound(self) -> bool:
        """Whether it has a `:=` that names no subslot: it was built when none was there (PMS, 8.3.3)."""
        return self.slot.endswith("=") and "/" not in self.slot


@dataclass(frozen=True)
class Object:
    """An ELF file as NEEDED.ELF.2 tells of it; `kind` tells those apart that cannot be linked with each other."""

    kind: str
    path: str
    soname: str
    rpath: tuple[str, ...]
    needed: tuple[str, ...]


@dataclass(frozen=True)
class Installed:
    """A merged package: `folder` is its place in the database, `tree` the root."""

    package: Package
    folder: Path
    tree: Path

    def fact(self, name: str) -> str:
        """A file of the database, "" where there is none."""
        try:
            return (self.folder / name).read_text(errors="replace").strip()
        except OSError:
            return ""

    @cached_property
    def counter(self) -> int:
        """Grows with each merge into this root."""
        return int(self.fact("COUNTER") or 0)

    @cached_property
    def built(self) -> int:
        """When it was compiled, in seconds since 1970: for one from a binary package, long before it was merged."""
        return int(self.fact("BUILD_TIME") or 0)

    @cached_property
    def flags(self) -> frozenset[str]:
        """All of its USE flags, on or off."""
        return frozenset(flag.lstrip("+-") for flag in self.fact("IUSE").split())

    def needs(self, *names: str) -> tuple[Need, ...]:
        """What it needs according to these variables ("DEPEND", …)."""
        found = []
        for name in names:
            for word in self.fact(name).split():
                if (match := _TOKEN.fullmatch(word)) is not None and not word.startswith("!"):
                    found.append(Need(match["cp"], match["slot"] or ""))
        return tuple(found)

    @cached_property
    def objects(self) -> tuple[Object, ...]:
        found = []
        for line in self.fact("NEEDED.ELF.2").splitlines():
            kind, path, soname, rpath, needed, *rest = [*line.split(";"), "", "", "", ""][:6]
            found.append(
                Object(
                    rest[0] or kind, path, soname, tuple(rpath.split(":")) if rpath else (),
                    tuple(name for name in needed.split(",") if name),
                )
            )  # fmt: skip
        return tuple(found)

    def contents(self) -> Iterator[tuple[str, str, str]]:
        """Its files: kind ("obj", "sym", "dir", …), path, and the MD5 or the link's target."""
        for line in self.fact("CONTENTS").splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "obj":
                path, digest, _ = rest.rsplit(" ", 2)
                yield kind, path, digest
            elif kind == "sym":
                path, _, target = rest.partition(" -> ")
                yield kind, path, target.rsplit(" ", 1)[0]
            else:
                yield kind, rest, ""

    @cached_property
    def hollow(self) -> bool:
        """Whether it has no file of its own: what needs it means what it needs."""
        return not any(kind in ("obj", "sym") for kind, _, _ in self.contents())

    def interface(self) -> str:
        """A digest of what others see of it when they are built: headers, names in libraries, files for builds.

        The code of a library may differ, as long as its names are the same. A program counts by its content in the
        builder, where others run it, and not in the target.
        """
        objects = {found.path: found for found in self.objects}
        lines = []
        for kind, path, digest in self.contents():
            if kind == "dir" or _UNSEEN.search(path):
                continue
            found = objects.get(path)
            if found is not None and found.soname:
                names = " ".join(sorted(exports(self.tree / path.lstrip("/"))))
                digest = f"{found.soname} {names}" if names else digest
            elif found is not None and self.package.root == "target":
                digest = "program"
            lines.append(f"{path} {digest}")
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def installed(tree: Path, root: Root = "target") -> Mapping[str, Installed]:
    """All packages merged in a root, by category/name-version."""
    found = {}
    for folder in sorted((tree / DATABASE).glob("*/*/")):
        try:
            package = Package.of(f"{folder.parent.name}/{folder.name}", root=root)
        except ValueError:
            continue  # -MERGING-…, locks
        entry = Installed(package, folder, tree)
        found[package.cpv] = entry
    return found


def clear_leftovers(tree: Path) -> list[str]:
    """Removes what an emerge that was killed left in a root's database: half-merged entries, locks. Returns them.

    Nobody may be merging into this root: who calls this holds it.
    """
    removed = []
    for path in sorted((tree / DATABASE).glob("*/-MERGING-*")):
        shutil.rmtree(path, ignore_errors=True)
        removed.append(path.name)
    for pattern in (".*.portage_lockfile", "*/.*.portage_lockfile", "*.portage_lockfile", "*/*.portage_lockfile"):
        for path in (tree / DATABASE).glob(pattern):
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed
