"""What emerge is asked before anything is merged: the cycles in the way of the sets, the binary packages at hand."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import CommandFailed
from pipeline.portage.cycles import Package, Root
from pipeline.portage.emerge import JSON_SINCE, Emerge
from pipeline.portage.errors import explain
from pipeline.portage.report import Report, read

LACKING = ("--noreplace",)
"""What is there stays as it is, and what lacks is merged."""

CURRENT = ("--update", "--deep", "--newuse")
"""All is brought to the newest version and the configured flags: what a root that held packages before needs."""


def resolution(emerge: Emerge, sets: Sequence[str], want: Sequence[str] = LACKING) -> Report:
    """Asks emerge what it would do for the sets; merges nothing.

    Raises `GoldspawnError` with one clear line where emerge cannot tell, for any other reason than a cycle.
    """
    form = ["--circular-deps-report=json"] if emerge.version >= JSON_SINCE else []
    answer = emerge.ask("--debug", *form, *want, *sets)
    report = read(answer.stdout, answer.stderr)
    if report.cycles or answer.status == 0:
        return report
    text = answer.stdout + "\n" + answer.stderr
    told = explain(text)
    if told is not None:
        raise told
    tail = "\n".join(line for line in (answer.stderr or answer.stdout).splitlines() if line.strip())
    argv = emerge.emerge("--pretend", *want, *sets)
    raise CommandFailed(argv, answer.status, "\n".join(tail.splitlines()[-25:]))


def at_hand(emerge: Emerge, packages: set[Package]) -> frozenset[Package]:
    """Which of the packages could be merged from binary packages, with the configured flags: emerge knows."""
    found = set()
    roots: list[Root] = ["builder", "target"]
    for root in roots:
        asked = {package.cpv: package for package in packages if package.root == root}
        if asked:
            atoms = [package.atom for package in asked.values()]
            answer = emerge.ask("--oneshot", "--nodeps", "--usepkg", "--binpkg-respect-use=y", *atoms, at=root)
            for line in answer.stdout.splitlines():
                if line.startswith("[binary"):
                    name = line.split("]", 1)[1].split()[0].split(":")[0]
                    found |= {
                        package
                        for cpv, package in asked.items()
                        if name in (cpv, f"{cpv}-1") or name.startswith(f"{cpv}-")
                    }
    return frozenset(found)
