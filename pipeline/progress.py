"""What is being worked on right now: said here by whoever works, shown by whoever owns the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from pipeline import channel


@dataclass(frozen=True)
class Progress:
    """A sign of life: `subject` (an image, or "appliance") is in `stage`; `text` is the last line of what runs.

    `state` is "begin", "line" or "end"; "note" for a line that stays on the screen; "pause" and "resume" when somebody
    else has the terminal in between.
    """

    subject: str
    stage: str
    state: str
    text: str = ""


NOTED = "plan: "
"""How lines begin that are notes: in a log, and between processes, they are lines as others are."""


def of_line(subject: str, stage: str, text: str) -> Progress:
    """A line of what runs, as a sign of life."""
    text = text.rstrip()
    return Progress(subject, stage, "note" if text.startswith(NOTED) else "line", text.strip())


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
