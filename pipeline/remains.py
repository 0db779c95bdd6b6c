"""What a machine said whose image did not pass: kept beside the log of its build, for the page of the run.

An image that passed has the same in its artifact.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from pipeline.artifact import packages
from pipeline.artifact.document import STRICT, Document
from pipeline.artifact.manifest import Boot, Package
from pipeline.command import BuildLog, output
from pipeline.errors import GoldspawnError
from pipeline.machine import Machine
from pipeline.machine.timing import boot_times
from pipeline.masking import masked


@dataclass(frozen=True, config=STRICT)
class Remains:
    """Its journal, how it booted, with a chart of that (SVG), and its packages."""

    schema_version: Literal[1] = 1
    journal: str = ""
    boot: Boot | None = None
    chart: str = ""
    packages: tuple[Package, ...] = ()


_DOCUMENT = Document(Remains, "machine.json", "Remains of a machine")


def beside(log: Path) -> Path:
    """Where they lie, by the log of the build."""
    return log.with_suffix(".machine.json")


def keep(machine: Machine, log: BuildLog) -> None:
    """Takes what there is to be had: of a machine that runs no more, what it left on its disk. The first time counts.

    For a run that has failed already: what goes wrong here stands in the log, and is no failure of its own.
    """
    if log.path is None or beside(log.path).exists():
        return
    try:
        boot, chart = None, ""
        journal = machine.journal() or _journal_on_disk(machine)
        listed = tuple(Package(*one) for one in packages.installed(machine.directory))
        if machine.state().running and (times := boot_times(machine)).seconds > 0:
            slowest = dict(sorted(times.units.items(), key=lambda pair: -pair[1]))
            boot, chart = Boot(round(times.seconds, 3), slowest), times.chart
        _DOCUMENT.save(Remains(journal=journal, boot=boot, chart=chart, packages=listed), beside(log.path))
    except (GoldspawnError, OSError) as error:
        log.line(f"not all of what the machine said could be kept: {error}")


def _journal_on_disk(machine: Machine) -> str:
    folder = machine.directory / "var/log/journal"
    argv = ["journalctl", f"--directory={folder}", "--quiet", "--no-pager", "--output=short-iso-precise"]
    return masked(output(argv, check=False, timeout=60 * machine.slowness).stdout) if folder.is_dir() else ""


def load(log: Path) -> Remains:
    """What was kept beside a log; nothing where nothing was, or where it cannot be read."""
    try:
        return _DOCUMENT.load(beside(log))
    except GoldspawnError:
        return Remains()
