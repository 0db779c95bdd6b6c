"""What a package said before it failed: its build.log, where emerge prints its own end, or nothing.

With one job emerge prints the whole build.log; with several it only names it, and builder roots are thrown away.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KEPT = 20000
"""Lines of a build.log that are kept at most, from its end."""

_NAMED = re.compile(
    r"^>>> Failed to (?:emerge|install) (\S+?)(?: (?:for|to) \S+?)?, Log file:\s*\n>>>\s+'([^']+)'", re.M
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_SHOWN = 22
_SAID = 2
"""Lines that are shown before the complaint of the ebuild, and of that; emerge's advice comes after it."""


@dataclass(frozen=True)
class Failure:
    """A package that failed, and the lines of its build.log."""

    cpv: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def end(self) -> str:
        """The last lines that say something."""
        last = [index for index, line in enumerate(self.lines) if line.startswith(" * ERROR: ")]
        stop = last[-1] + _SAID if last else len(self.lines)
        return "\n".join(self.lines[:stop][-_SHOWN - _SAID :])

    def is_in(self, text: str) -> bool:
        """Whether emerge has printed the log itself."""
        return self.end in _COLOUR.sub("", text)


def failures(text: str, seen: Callable[[str], Path]) -> list[Failure]:
    """The packages that failed in an emerge that printed `text`; `seen` tells where we see a path that it names."""
    found = []
    for cpv, path in dict(_NAMED.findall(text)).items():
        try:
            lines = _COLOUR.sub("", seen(path).read_text(errors="replace")).splitlines()
        except OSError:
            continue
        if lines:
            found.append(Failure(cpv, tuple(lines[-KEPT:])))
    return found
