"""Progress of emerge: how many packages of how many, which one and for how long, how many at once, how long still.

    37 of 240, sys-libs/zlib-1.3 compile, 2:10, 3 jobs, about 24 min left

The number is that of the package which is worked on for the longest time, and 2:10 is that time. All of it is from
Portage's status file where it writes one, else from the lines that emerge prints, which do not tell the phase.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from pipeline.command import BuildLog
from pipeline.portage.status import Job, Status

EVERY = 10.0
"""Seconds of silence after which a line says how far it is."""

_BEGUN = re.compile(r">>> Emerging (?:binary )?\((\d+) of (\d+)\) (\S+?)(?:::\S+)?(?: (?:for|to) \S+)?$")
_ENDED = re.compile(r">>> (?:Completed \(\d+ of \d+\)|Failed to emerge) ([^\s,]+?)(?:::\S+)?(?:,| (?:for|to) \S+|$)")


class Counting(BuildLog):
    """Passes all lines on; where a package begins the line says how far that is, and so it does after each silence.

    `status` asks for what Portage itself says, `every` is in seconds.
    """

    def __init__(self, log: BuildLog, status: Callable[[], Status | None] = lambda: None, every: float = EVERY) -> None:
        super().__init__()
        self.path = log.path
        self._log = log
        self._status = status
        self._every = every
        self._told = 0.0
        self._started = 0.0
        self._first = 0
        self._last = 0
        self._total = 0
        self._running: dict[str, float] = {}

    def line(self, text: str) -> None:
        if (begun := _BEGUN.match(text)) is not None:
            self._begin(int(begun[1]), int(begun[2]), begun[3])
            text = self._line(Status(self._last - 1, self._total, (Job(begun[3], "", 0.0),)), len(self._running))
        elif (ended := _ENDED.match(text)) is not None:
            self._running.pop(ended[1], None)
        self._told = time.monotonic()
        self._log.line(text)

    def idle(self) -> None:
        now = time.monotonic()
        if not self._running or now - self._told < self._every:
            return
        self._told = now
        known = self._status()
        if known is None or not known.jobs:
            jobs = tuple(Job(package, "", now - since) for package, since in self._running.items())
            known = Status(self._last - len(jobs), self._total, jobs)
        self._log.line(self._line(known, len(known.jobs)))

    def took(self, seconds: float) -> None:
        self._running.clear()
        self._log.took(seconds)

    def _begin(self, number: int, total: int, package: str) -> None:
        if number <= self._last or (not self._running and number == 1):  # another emerge
            self._first = 0
            self._running.clear()
        if not self._first:
            self._started, self._first = time.monotonic(), number
        self._last, self._total = number, total
        self._running[package] = time.monotonic()

    def _line(self, known: Status, jobs: int) -> str:
        job = known.jobs[0]
        parts = [f"{known.done + 1} of {known.total}", f"{job.package} {job.phase}".strip()]
        if job.elapsed >= 1:
            parts.append(f"{int(job.elapsed) // 60}:{int(job.elapsed) % 60:02}")
        if jobs > 1:
            parts.append(f"{jobs} jobs")
        done = known.done + 1 - self._first
        if done > 0:
            pace = (time.monotonic() - self._started) / done
            parts.append(f"about {_duration(pace * (known.total - known.done))} left")
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
