"""Progress of emerge: how many packages of how many, which one, and how long it will take."""

from __future__ import annotations

import re
import time

from pipeline.command import BuildLog

_BEGUN = re.compile(r">>> Emerging (?:binary )?\((\d+) of (\d+)\) (\S+?)(?:::\S+)?(?: (?:for|to) \S+)?$")


class Counting(BuildLog):
    """Passes all lines on; where a package begins, the line says "37 of 240, sys-libs/zlib-1.3, about 24 min left"."""

    def __init__(self, log: BuildLog) -> None:
        super().__init__()
        self.path = log.path
        self._log = log
        self._started = time.monotonic()
        self._first = 0
        self._last = 0

    def line(self, text: str) -> None:
        self._log.line(self._counted(text) or text)

    def took(self, seconds: float) -> None:
        self._log.took(seconds)

    def _counted(self, text: str) -> str | None:
        found = _BEGUN.match(text)
        if found is None:
            return None
        number, count, package = int(found[1]), int(found[2]), found[3]
        if number <= self._last:  # another emerge
            self._first = 0
        if not self._first:
            self._started, self._first = time.monotonic(), number
        self._last = number
        left = ""
        if number > self._first:
            pace = (time.monotonic() - self._started) / (number - self._first)
            left = f", about {_duration(pace * (count - number + 1))} left"
        return f"{number} of {count}, {package}{left}"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
