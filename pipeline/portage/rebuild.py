"""Building again what was built against something incomplete, until nothing is left that was.

A member of a ring that was merged without what it needs is incomplete. Once the sets are merged it is built again,
now against all that it needs. Whoever was built while it was incomplete has seen another library than the one that
ships: if what others can see of it is different now (`Installed.interface`: headers, names in libraries), they are
built again as well, and so on until a build changes nothing that others see. So in the end every package was built
against what ships, which is what a world without cycles would have; where nothing visible changed, nothing is built
twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pipeline.errors import GoldspawnError
from pipeline.portage.cycles import Package, Root
from pipeline.portage.emerge import Emerge
from pipeline.portage.installed import Installed, installed
from pipeline.portage.sound import unbound

WAVES = 8
"""How many times in a row something may have to be built again. Two or three is what rings of rings take."""

FROM_SOURCE = ("--oneshot", "--usepkg=n", "--getbinpkg=n")


@dataclass(frozen=True)
class Half:
    """An incomplete package, and what others saw of it: "" where that is not known."""

    package: Package
    interface: str = ""


def rebuild(
    emerge: Emerge, root: Root, halves: Iterable[Half], *, since: int, say: Callable[[str], None]
) -> list[tuple[Package, ...]]:
    """Builds the incomplete packages of one root again, then those that saw them so; returns each wave.

    `since` is when the first of them was made, in seconds since 1970: what was compiled before is sound. Raises
    `CommandFailed` when one cannot be built, `GoldspawnError` when it never ends.
    """
    tree = emerge.tree(root)
    waves: list[tuple[Package, ...]] = []
    if tree is None:
        if wave := tuple(sorted({half.package for half in halves})):
            _again(emerge, root, wave, waves, say)
        return waves
    now = installed(tree, root)
    before = {half.package.cpv: half.interface for half in halves if half.package.cpv in now}
    for entry in unbound(now) if root == "target" else ():
        if entry.built >= since:
            before.setdefault(entry.package.cpv, entry.interface())
    while before:
        _again(emerge, root, tuple(sorted(now[cpv].package for cpv in before)), waves, say)
        now = installed(tree, root)
        changed = [now[cpv] for cpv, seen in before.items() if cpv in now and now[cpv].interface() != seen]
        before = {entry.package.cpv: entry.interface() for entry in _witnesses(now, changed, since)}
    return waves


def _again(
    emerge: Emerge, root: Root, wave: tuple[Package, ...], waves: list[tuple[Package, ...]], say: Callable[[str], None]
) -> None:
    """Builds one wave, all at once: emerge knows the order."""
    if len(waves) == WAVES:
        raise GoldspawnError(
            f"{', '.join(package.cpv for package in wave)} would have to be built again without end: "
            "each build changes what the others see",
            hint="one of them does not build the same twice; mask it, or give it binary packages",
        )
    say(f"building again, wave {len(waves) + 1}: {', '.join(str(package) for package in wave)}")
    emerge.merge(*FROM_SOURCE, *(package.atom for package in wave), at=root)
    waves.append(wave)


def half(emerge: Emerge, package: Package) -> Half:
    """An incomplete package that has just been merged, with what others see of it now."""
    tree = emerge.tree(package.root)
    entry = installed(tree, package.root).get(package.cpv) if tree is not None else None
    return Half(package, entry.interface() if entry is not None else "")


def _witnesses(now: Mapping[str, Installed], changed: Iterable[Installed], since: int) -> list[Installed]:
    """Who was built against one of the changed packages before it was what it is now.

    What needs a package without files (a virtual) was built against what that needs.
    """
    found = {}
    for one in changed:
        keys = {one.package.key}
        for entry in now.values():
            if entry.hollow and any(need.key == one.package.key for need in entry.needs("RDEPEND")):
                keys.add(entry.package.key)
        for entry in now.values():
            earlier = one.counter > entry.counter and entry.built >= since
            if earlier and any(need.key in keys for need in entry.needs("DEPEND", "BDEPEND")):
                found[entry.package.cpv] = entry
    return list(found.values())
