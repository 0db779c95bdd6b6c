"""Live progress below pytest's own output: one line for each thing that is being worked on.

On a terminal the lines are drawn under the line that pytest is writing, and wiped before it goes on writing; where
there is no terminal, a plain line appears now and then.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import pytest

from pipeline.progress import Progress

_REDRAW = 0.2
"""Seconds between two drawings on a terminal."""

_PLAIN = 30.0
"""Seconds between two plain lines about the same work."""


@dataclass
class _Work:
    stage: str
    since: float
    text: str = ""
    told: float = 0.0


class Display:
    """Shows what is being worked on. `update` may be called from any thread; `hide` before pytest writes."""

    def __init__(self, config: pytest.Config) -> None:
        self._writer = config.get_terminal_writer()
        self._live = self._writer.hasmarkup and self._writer._file.isatty()
        self._quiet = config.getoption("verbose", 0) < -1
        self._lock = threading.RLock()
        self._works: dict[str, _Work] = {}
        self._drawn = 0
        self._paused = False
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._tick, daemon=True, name="goldspawn-display").start()

    def stop(self) -> None:
        self._stopped.set()
        self.hide()

    def update(self, progress: Progress) -> None:
        """Takes a sign of life."""
        with self._lock:
            if progress.state in ("pause", "resume"):
                self.hide()
                self._paused = progress.state == "pause"
                return
            if progress.state == "end":
                self._works.pop(progress.subject, None)
                self.hide()
                return
            if progress.state == "note":
                self._note(f"{progress.subject}: {progress.text}")
                return
            work = self._works.get(progress.subject)
            if progress.state == "begin" and (work is None or work.stage != progress.stage):
                self._works[progress.subject] = _Work(progress.stage, time.monotonic(), told=time.monotonic())
            elif work is not None and progress.text:
                work.text = progress.text

    def _note(self, text: str) -> None:
        """Writes a line that stays, below what pytest was writing."""
        if self._quiet or self._paused:
            return
        self.hide()
        if self._writer.width_of_current_line:
            self._writer.line()
        self._writer.line(text)

    def hide(self) -> None:
        """Wipes the lines and puts the cursor back where pytest left it."""
        with self._lock:
            if self._drawn:
                back = self._writer.width_of_current_line
                column = f"\x1b[{back}C" if back else ""
                self._raw(f"\x1b[{self._drawn}A\r{column}\x1b[J")
                self._drawn = 0

    def _tick(self) -> None:
        while not self._stopped.wait(_REDRAW):
            with self._lock:
                if self._quiet or self._paused:
                    continue
                if self._live:
                    self._draw()
                else:
                    self._tell()

    def _draw(self) -> None:
        self.hide()
        lines = [self._line(subject, work) for subject, work in self._works.items()]
        if lines:
            self._raw("".join(f"\n\x1b[2K\x1b[36m{line}\x1b[0m" for line in lines))
            self._drawn = len(lines)

    def _tell(self) -> None:
        now = time.monotonic()
        for subject, work in self._works.items():
            if now - work.told >= _PLAIN:
                work.told = now
                self._writer.line()
                self._writer.line(f"... {self._line(subject, work)}")
                self._writer.flush()  # a pipe would keep it for hours

    def _line(self, subject: str, work: _Work) -> str:
        seconds = int(time.monotonic() - work.since)
        head = f"{subject} · {work.stage} · {seconds // 60}:{seconds % 60:02}"
        text = "".join(letter for letter in work.text if letter.isprintable())
        return f"{head} · {text}"[: self._writer.fullwidth - 1] if text else head

    def _raw(self, text: str) -> None:
        # Past the writer's own count of columns: these lines are wiped before it writes again.
        self._writer._file.write(text)
        self._writer._file.flush()
