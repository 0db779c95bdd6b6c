"""One break made: tried in a copy where there is one, then done, with all that it leaves incomplete."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from pipeline.errors import CommandFailed
from pipeline.portage.cycles import Graph, Root
from pipeline.portage.emerge import Emerge
from pipeline.portage.plan import Break
from pipeline.portage.rebuild import FROM_SOURCE


@dataclass(frozen=True)
class Trial:
    """Where each --nodeps is tried before it is done.

    `copy` gives an `Emerge` that has a throw-away copy of one of the roots in its place. `packages` is a folder as
    emerge sees it, from there as from here: what a trial has built lies in it and is merged, and not built twice.
    """

    copy: Callable[[Root], AbstractContextManager[Emerge]]
    packages: str

    def build(self, emerge: Emerge, step: Break) -> None:
        """Builds what a --nodeps would merge, in a copy of its root. Raises `CommandFailed`."""
        with self.copy(step.package.root) as copy:
            copy.of_same_portage(emerge).merge(
                *FROM_SOURCE, "--nodeps", "--buildpkg=y", *_atoms(step), at=step.package.root,
                env=self._environment(emerge),
            )  # fmt: skip

    def merge(self, emerge: Emerge, step: Break) -> None:
        """Merges what was built into the root itself. Raises `CommandFailed`."""
        emerge.merge(
            "--oneshot", "--nodeps", "--usepkgonly", "--getbinpkg=n", "--buildpkg=n", *_atoms(step),
            at=step.package.root, env=self._environment(emerge),
        )  # fmt: skip

    def _environment(self, emerge: Emerge) -> dict[str, str]:
        """What is said to an emerge that builds such a package, or merges it: nobody but us has signed it."""
        features = f"{emerge.environment.get('FEATURES', '')} -binpkg-signing binpkg-ignore-signature"
        return {"PKGDIR": self.packages, "FEATURES": features.strip()}


def prepare(emerge: Emerge, step: Break, *, spoilt: set[str]) -> None:
    """Merges what belongs before a break. Whether that can do without is its own to find out."""
    roots: list[Root] = ["builder", "target"]
    apart = [f"--buildpkg-exclude={' '.join(sorted(spoilt))}"] if spoilt else []
    for root in roots:
        if atoms := [package.atom for package in step.first if package.root == root]:
            with contextlib.suppress(CommandFailed):
                emerge.merge("--oneshot", "--noreplace", *apart, *atoms, at=root)


def perform(emerge: Emerge, step: Break, trial: Trial | None = None) -> None:
    """Makes one break, with what the trial has built. Raises `CommandFailed`."""
    root = step.package.root
    if step.method == "binary":
        emerge.merge("--oneshot", "--usepkg", *_atoms(step), at=root)
    elif step.method == "use":
        env = {"USE": " ".join(flag.removeprefix("+") for flag in step.flags)}
        emerge.merge(*FROM_SOURCE, "--buildpkg=n", *_atoms(step), at=root, env=env)
    elif trial is not None:
        trial.merge(emerge, step)
    else:
        emerge.merge(*FROM_SOURCE, "--nodeps", "--buildpkg=n", *_atoms(step), at=root)


def _atoms(step: Break) -> list[str]:
    return [package.atom for package in step.packages]


def spoilt_by(step: Break, graph: Graph) -> set[str]:
    """The category/names that are built against what a break leaves incomplete, and that package itself."""
    if not step.incomplete:
        return set()
    found = set(step.packages)
    through = {edge.parent for edge in graph.edges if edge.child in found and not edge.builds}
    hollow = {package for package in through if not any(edge.builds for edge in graph.needs.get(package, ()))}
    found |= {edge.parent for edge in graph.edges if edge.builds and edge.child in found | hollow}
    return {package.key for package in found}


def reason(error: CommandFailed) -> str:
    """Why a merge failed, in a line: what its text means, or the last thing it complained of."""
    if error.hint is not None:
        return error.hint.splitlines()[0]
    complaints = [line.strip("!* ") for line in error.tail.splitlines() if line.startswith(("!!!", " * "))]
    lines = complaints or error.tail.split("\n")
    return next((line for line in reversed(lines) if line.strip()), f"exit status {error.status}")
