"""How a machine booted: in how many seconds, what took how long, and systemd's chart of it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.command import output
from pipeline.machine.unit import Machine


@dataclass(frozen=True)
class BootTimes:
    """The last boot: `seconds` from the start of PID 1 until its queue of jobs was empty, and those of the units.

    `chart` is what `systemd-analyze plot` draws (SVG).
    """

    seconds: float
    units: Mapping[str, float] = field(default_factory=dict)
    chart: str = ""


def boot_times(machine: Machine) -> BootTimes:
    """Asks the running machine how it booted.

    The times of its units are read from the chart, which has those that `systemd-analyze blame` would tell: each of the
    two asks the bus for every property of every unit, which under emulation takes seven seconds.
    """
    chart = _analyze(machine, "plot")
    return BootTimes(boot_seconds(machine), _in_chart(chart), chart)


def boot_seconds(machine: Machine) -> float:
    """Seconds from the start of PID 1 until its queue of jobs was empty, in the last boot; 0 if it is not yet."""
    argv = ["systemctl", "-M", machine.name, "show", "--property=UserspaceTimestampMonotonic,FinishTimestampMonotonic"]
    told = dict(line.split("=", 1) for line in output(argv).stdout.splitlines() if "=" in line)
    took = int(told.get("FinishTimestampMonotonic") or 0) - int(told.get("UserspaceTimestampMonotonic") or 0)
    return max(took, 0) / 1e6


def _in_chart(chart: str) -> dict[str, float]:
    """Seconds that each unit took to start, of those that took any: its label is `nginx.service (1.126s)`."""
    return {html.unescape(unit): round(_seconds(took), 3) for unit, took in _LABEL.findall(chart)}


_LABEL = re.compile(r">([^<\s]+\.\w+) \(([^()<]+)\)</text>")


def critical_chain(machine: Machine) -> list[str]:
    """The units that the machine waited for, one after the other, as systemd tells it."""
    # Above them stands what "@" and "+" mean.
    return [line for line in _analyze(machine, "critical-chain").splitlines() if re.search(r" [@+]\d", line)]


def _analyze(machine: Machine, verb: str) -> str:
    argv = ["systemd-analyze", "-M", machine.name, "--no-pager", verb]
    return output(argv, log=machine.log, check=False, timeout=60 * machine.slowness).stdout


def _seconds(text: str) -> float:
    units = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(h|min|ms|us|s)\b", text))


def slower(now: BootTimes, before: BootTimes, version: str) -> str:
    """In words, by how much a machine boots later than `version` did, and why; "" if hardly (0.5 s, 10 %) or not."""
    more = now.seconds - before.seconds
    if more < max(0.5, before.seconds / 10):
        return ""
    grown = {unit: took - before.units.get(unit, 0.0) for unit, took in now.units.items()}
    worst = [unit for unit in sorted(grown, key=grown.__getitem__, reverse=True) if grown[unit] > more / 4]
    return f"boots {more:.1f} s later than version {version}" + (f": {', '.join(worst[:3])}" if worst else "")
