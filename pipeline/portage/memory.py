"""What is remembered between runs: solved plans in a folder of the caller's, unfinished work in the roots themselves.

A plan is kept under a digest of all that it depends on, so another tree finds nothing; and it is only a hint: breaks
that do not fit are let go of, and the cycles are solved anew. Unfinished work lies in the root that it is about, so
that a clone, a copy or a rollback of that root takes it along.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.portage.cycles import Package, Root
from pipeline.portage.emerge import Emerge
from pipeline.portage.installed import installed
from pipeline.portage.plan import Break, Plan, breaks_from_json
from pipeline.portage.rebuild import Half

MARKER = Path("var/lib/goldspawn/half-built.json")
"""In a root with incomplete packages: which, and since when. What ships has none."""

FORMAT = 2


@dataclass(frozen=True)
class Memory:
    """A folder of solved plans; `key` is the caller's word for what it knows of the tree (commit, profile, flags)."""

    folder: Path
    key: str

    def place(self, emerge: Emerge, sets: Sequence[str]) -> Path:
        """The file for these sets, this Portage, these options, and what is merged in the roots now."""
        roots: list[Root] = ["target", "builder"]
        trees = [tree for root in roots if (tree := emerge.tree(root)) is not None]
        told = [
            self.key,
            list(emerge.version),
            list(emerge.options),
            list(sets),
            [sorted(installed(tree)) for tree in trees],
        ]
        return self.folder / f"{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]}.json"

    def recall(self, place: Path) -> tuple[tuple[Break, ...], frozenset[str]]:
        """The breaks that solved this once, and the packages (category/name) that are built against what these leave
        incomplete; none where nothing sensible is remembered.
        """
        try:
            data = json.loads(place.read_text())
            if data["format"] == FORMAT:
                return breaks_from_json(data["breaks"]), frozenset(map(str, data["spoilt"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        return (), frozenset()

    def keep(self, place: Path, breaks: Sequence[Break], spoilt: Iterable[str]) -> None:
        """Remembers breaks that worked, and what was built against what they left incomplete."""
        data = {"format": FORMAT, "breaks": Plan(tuple(breaks)).as_json(), "spoilt": sorted(spoilt)}
        atomic.write(place, json.dumps(data, indent=1) + "\n")


@dataclass
class Unfinished:
    """The incomplete packages of one root, written down before each is made: a killed run is taken up from there."""

    tree: Path | None
    root: Root
    halves: dict[str, str]
    since: int = 0

    @classmethod
    def of(cls, emerge: Emerge, root: Root) -> Unfinished:
        """What a run before this one left in the root, if it did."""
        tree = emerge.tree(root)
        found = cls(tree, root, {})
        if tree is None:
            return found
        try:
            data: Any = json.loads((tree / MARKER).read_text())
            found.halves = {str(cpv): str(seen) for cpv, seen in data["packages"].items()}
            found.since = int(data["since"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        return found

    def add(self, packages: Iterable[Package], *, now: int) -> None:
        """Notes packages that are about to be merged incomplete."""
        self.since = min(self.since, now) if self.since else now
        for package in packages:
            self.halves.setdefault(package.cpv, "")
        self._save()

    def seen(self, half: Half) -> None:
        """Notes what others see of one of them."""
        self.halves[half.package.cpv] = half.interface
        self._save()

    def drop(self, package: Package) -> None:
        """Forgets one whose merge failed: nothing of it is in the root."""
        self.halves.pop(package.cpv, None)
        self._save()

    def done(self) -> None:
        """Takes the mark away."""
        self.halves.clear()
        self._save()

    def as_halves(self) -> list[Half]:
        return [Half(Package.of(cpv, root=self.root), interface) for cpv, interface in self.halves.items()]

    def _save(self) -> None:
        if self.tree is None:
            return
        file = self.tree / MARKER
        if self.halves:
            atomic.write(file, json.dumps({"packages": self.halves, "since": self.since}, indent=1) + "\n")
            return
        file.unlink(missing_ok=True)
        if file.parent.is_dir() and not any(file.parent.iterdir()):
            file.parent.rmdir()
