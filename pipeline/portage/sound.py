"""Whether a root is as if there never had been a cycle: said by its own database and by emerge.

What the checks find are lines for people; none of them changes anything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pipeline.portage.cycles import Package
from pipeline.portage.emerge import Emerge
from pipeline.portage.installed import Installed, installed

PLACES = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/lib32", "/usr/lib32", "/usr/local/lib", "/usr/local/lib64")
"""Where the loader looks without being told (ld.so(8)), and where merged-usr systems put it."""

_TOOLCHAIN = (
    "libc.so.",
    "libm.so.",
    "libgcc_s.so.",
    "libstdc++.so.",
    "ld-linux",
    "libpthread.so.",
    "libdl.so.",
    "librt.so.",
)
"""What the compiler links unasked: ebuilds do not name it. A root without a C library stands on another one's."""


def unbound(packages: Mapping[str, Installed]) -> list[Installed]:
    """The packages that were built with `:=` on something that is there now and was not there then."""
    keys = {entry.package.key for entry in packages.values()}
    return [
        entry
        for entry in packages.values()
        if any(need.unbound and need.key in keys for need in entry.needs("DEPEND", "RDEPEND"))
    ]


def unlinked(packages: Mapping[str, Installed], tree: Path) -> list[str]:
    """The libraries that files of the packages need and the root does not have, as lines."""
    objects = [(entry, found) for entry in packages.values() for found in entry.objects]
    given = {(found.kind, found.soname) for _, found in objects if found.soname}
    given |= {(found.kind, Path(found.path).name) for _, found in objects}
    has_libc = any(soname.startswith("libc.so.") for _, soname in given)
    places = [*PLACES, *_configured(tree)]
    lines = []
    for entry, found in objects:
        own = str(Path(found.path).parent)
        for name in found.needed:
            if (found.kind, name) in given or (not has_libc and name.startswith(_TOOLCHAIN)):
                continue
            paths = [path.replace("$ORIGIN", own).replace("${ORIGIN}", own) for path in found.rpath]
            if not any(_exists(tree, f"{path}/{name}") for path in (*paths, *places)):
                lines.append(f"{found.path} of {entry.package.cpv} needs {name}, which is nowhere in the root")
    return lines


def _exists(tree: Path, path: str) -> bool:
    """Whether a file is in the tree: links are followed as the tree's own, at most one at each end."""
    place = tree / path.lstrip("/")
    if place.is_symlink():
        target = place.readlink()
        place = tree / str(target).lstrip("/") if target.is_absolute() else place.parent / target
    return place.exists()


def _configured(tree: Path) -> list[str]:
    """The folders of ld.so.conf."""
    files = [tree / "etc/ld.so.conf", *sorted((tree / "etc/ld.so.conf.d").glob("*.conf"))]
    lines = [line.strip() for file in files if file.is_file() for line in file.read_text(errors="replace").splitlines()]
    return [line for line in lines if line.startswith("/")]


def unsettled(emerge: Emerge, sets: Sequence[str]) -> list[str]:
    """What emerge would still do for the sets, as lines: nothing, if all flags are as configured and nothing lacks.

    Updates are no part of it: a root may hold older versions on purpose.
    """
    answer = emerge.ask("--noreplace", "--newuse", "--deep", "--with-bdeps=n", *sets)
    work = [line.strip() for line in answer.stdout.splitlines() if line.startswith(("[ebuild", "[binary", "[blocks"))]
    if answer.status != 0 and not work:
        return [line for line in (answer.stderr or answer.stdout).strip().splitlines() if line.strip()][-3:]
    return work


def misconfigured(emerge: Emerge, members: Collection[Package]) -> list[str]:
    """Which of the members were not built with the configured flags, as lines."""
    lines: list[str] = []
    for root in ("builder", "target"):
        atoms = sorted(member.atom for member in members if member.root == root)
        if atoms:
            answer = emerge.ask("--oneshot", "--nodeps", "--noreplace", "--newuse", *atoms, at=root)
            lines += [line for line in answer.stdout.splitlines() if line.startswith(("[ebuild", "[binary"))]
    return lines


def faults(emerge: Emerge, sets: Sequence[str], members: Collection[Package]) -> list[str]:
    """Everything that is not as it should be after cycles were opened and closed again, as lines; none is good."""
    packages = installed(emerge.seen)
    lines = [f"{entry.package.cpv} was built before what its := names was there" for entry in unbound(packages)]
    lines += unlinked(packages, emerge.seen)
    lines += [f"emerge would still do: {line}" for line in unsettled(emerge, sets)]
    lines += [f"other USE flags than configured: {line}" for line in misconfigured(emerge, members)]
    return lines
