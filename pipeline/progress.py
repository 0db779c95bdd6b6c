"""What is being worked on right now: said here by whoever works, shown by whoever owns the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from pipeline import channel


@dataclass(frozen=True)
class Progress:
    """A sign of life: `subject` (an image, or "appliance") is in `stage`; `text` is the last line of what runs.

    `state` is "begin", "line" or "end"; "pause" and "resume" when somebody else has the terminal in between.
    """

    subject: str
    stage: str
    state: str
    text: str = ""


_sinks: list[Callable[[Progress], None]] = []


def show_with(sink: Callable[[Progress], None]) -> None:
    """Makes `sink` the one that shows progress in this process."""
    _sinks[:] = [sink]


def report(progress: Progress) -> None:
    """Hands on a sign of life: to this process's own display, else to the process that owns the terminal."""
    if _sinks:
        _sinks[0](progress)
    elif channel.available():
        channel.tell({"kind": "progress", **asdict(progress)})
