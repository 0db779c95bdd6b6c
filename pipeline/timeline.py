"""A picture of a run: which stages of which image ran where and when, how long, and which were reused.

Plain SVG without scripts or fonts of its own; its colours follow the viewer's light or dark mode. Knows nothing of
pytest and nothing of ZFS.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Literal

State = Literal["ran", "reused", "failed", "skipped"]
STATES: tuple[State, ...] = ("ran", "reused", "failed", "skipped")


@dataclass(frozen=True)
class Span:
    """One stage of one image: on which `worker`, from `start` to `stop` (Unix time), and what came of it."""

    image: str
    stage: str
    worker: str
    start: float
    stop: float
    state: State

    @property
    def seconds(self) -> float:
        return self.stop - self.start


_WIDTH = 1100
_LEFT = 170
_RIGHT = 24
_TOP = 84
_ROW = 62
_BAR = 26
_BAND = 34
_GAP = 12
"""Pixels: the picture, its margins, the row of an image, its bar, the head of a worker's band, and between bands."""

_LETTER = 6.6
"""Pixels of an average letter of the small text (11 px, sans-serif)."""

_STYLE = """
text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: #1f2933 }
.title { font-size: 17px; font-weight: 600 } .image { font-size: 13px; font-weight: 600 }
.quiet { fill: #5b6b7b } .inbar { fill: #ffffff; font-weight: 600 }
.paper { fill: #ffffff } .band { fill: #f3f5f8 } .grid { stroke: #d9dfe6 }
.ran { fill: #2f6fb5 } .reused { fill: #2a8c68 } .failed { fill: #c93a3a } .skipped { fill: #8a6d1f }
.bad { fill: #c93a3a; font-weight: 600 } .good { fill: #2a8c68; font-weight: 600 }
@media (prefers-color-scheme: dark) {
text { fill: #e4e9ef } .quiet { fill: #9fadbb } .inbar { fill: #0f151b }
.paper { fill: #12181f } .band { fill: #1b232c } .grid { stroke: #2d3844 }
.ran { fill: #6ea8e5 } .reused { fill: #58c29a } .failed { fill: #ef7676 } .skipped { fill: #d0b05a }
.bad { fill: #ef7676 } .good { fill: #58c29a }
}
"""


def draw(spans: Sequence[Span], title: str) -> str:
    """The picture as the text of an SVG file: a band a worker, in it a row an image, in it a bar a stage."""
    begin = min(span.start for span in spans)
    total = max(max(span.stop for span in spans) - begin, 1.0)
    scale = (_WIDTH - _LEFT - _RIGHT) / total
    bands = [(worker, list(each)) for worker, each in groupby(_by_worker(spans), key=lambda span: span.worker)]
    bottom = _TOP
    backs: list[str] = []
    rows: list[str] = []
    for worker, ours in bands:
        images = [list(each) for _, each in groupby(ours, key=lambda span: span.image)]
        height = _BAND + _ROW * len(images)
        backs += _band(worker, ours, total, bottom, height)
        for index, image in enumerate(images):
            rows += _row(image, begin, scale, bottom + _BAND + _ROW * index)
        bottom += height + _GAP
    height = bottom + 18
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" data-seconds="{total:.1f}">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style>",
            f'<rect class="paper" width="{_WIDTH}" height="{height}" rx="8"/>',
            f'<text class="title" x="20" y="34">{escape(title)}</text>',
            *_legend(spans, total),
            *backs,
            *_axis(total, scale, bottom),
            *rows,
            "</svg>\n",
        ]
    )


def _by_worker(spans: Sequence[Span]) -> list[Span]:
    """The spans of each worker together, and in them those of each image, all in the order of their beginning."""
    first: dict[tuple[str, str], float] = {}
    for span in spans:
        key = (span.worker, span.image)
        first[key] = min(first.get(key, math.inf), span.start)
    return sorted(spans, key=lambda span: (span.worker, first[span.worker, span.image], span.image, span.start))


def _legend(spans: Sequence[Span], total: float) -> Iterator[str]:
    x = 20.0
    for state in STATES:
        ours = [span for span in spans if span.state == state]
        if not ours:
            continue
        said = f"{state}: {len(ours)} stage{'s' if len(ours) > 1 else ''}, {lasted(sum(one.seconds for one in ours))}"
        yield f'<rect class="{state}" x="{x:.0f}" y="52" width="12" height="12" rx="3"/>'
        yield f'<text x="{x + 18:.0f}" y="62">{said}</text>'
        x += 18 + len(said) * _LETTER + 26
    yield f'<text class="quiet" x="{_WIDTH - _RIGHT}" y="62" text-anchor="end">{lasted(total)} in all</text>'


def _band(worker: str, spans: list[Span], total: float, top: int, height: int) -> Iterator[str]:
    busy = sum(span.seconds for span in spans)
    said = f"{lasted(busy)} of work, {100 * busy / total:.0f} % of the time"
    yield f'<rect class="band" x="12" y="{top}" width="{_WIDTH - 24}" height="{height}" rx="6"/>'
    yield f'<text class="image" x="24" y="{top + 21}">{escape(worker)}</text>'
    yield f'<text class="quiet" x="{_LEFT}" y="{top + 21}">{said}</text>'


def _row(spans: list[Span], begin: float, scale: float, top: int) -> Iterator[str]:
    image = spans[0].image
    yield f'<text class="image" x="24" y="{top + 17}">{escape(_short(image, 17))}</text>'
    yield f'<text class="quiet" x="24" y="{top + 33}">{lasted(sum(span.seconds for span in spans))}</text>'
    for span in spans:
        x, width = _LEFT + (span.start - begin) * scale, max(span.seconds * scale, 1.0)
        inner = max(width - 1, 1.0)  # a gap parts one stage from the next
        told = f"{image} {span.stage}: {span.state}, {lasted(span.seconds)}"
        yield f'<rect class="{span.state}" x="{x:.1f}" y="{top}" width="{inner:.1f}" height="{_BAR}" rx="3">'
        yield f"<title>{escape(told)}</title></rect>"
        if width > len(span.stage) * _LETTER + 8:
            yield f'<text class="inbar" x="{x + inner / 2:.1f}" y="{top + 17}" text-anchor="middle">{span.stage}</text>'
    yield from _words(spans, _LEFT + (spans[0].start - begin) * scale, top + _BAR + 15)


def _words(spans: list[Span], x: float, y: int) -> Iterator[str]:
    """All stages of an image in words, below its bars: also those whose bar is too narrow to hold any."""
    words = [_word(span) for span in spans]
    wide = sum(len(plain) + 3 for plain, _ in words) * _LETTER * 0.9
    x = max(_LEFT, min(x, _WIDTH - _RIGHT - wide))
    room = _WIDTH - _RIGHT - _LEFT
    fits = f' textLength="{room}" lengthAdjust="spacingAndGlyphs"' if wide > room else ""
    dot = '<tspan class="quiet" dx="6">·</tspan><tspan dx="6"> </tspan>'
    said = dot.join(marked for _, marked in words)
    yield f'<text x="{x:.1f}" y="{y}"{fits}>{said}</text>'


def _word(span: Span) -> tuple[str, str]:
    took = lasted(span.seconds)
    if span.state == "ran":
        return f"{span.stage} {took}", f'{span.stage} <tspan class="quiet">{took}</tspan>'
    if span.seconds < 1.0:
        took = ""
    style = {"reused": "good", "failed": "bad", "skipped": "quiet"}[span.state]
    marked = f'{span.stage} <tspan class="{style}">{span.state}</tspan>'
    return f"{span.stage} {span.state} {took}".strip(), marked + (f' <tspan class="quiet">{took}</tspan>' * bool(took))


def _axis(total: float, scale: float, bottom: int) -> Iterator[str]:
    steps = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
    step = next((size for size in steps if total / size <= 10), math.ceil(total / 10))
    for tick in range(0, int(total) + 1, step):
        x = _LEFT + tick * scale
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4}" y2="{bottom - 8}" opacity="0.6"/>'
        yield f'<text class="quiet" x="{x:.1f}" y="{bottom + 6}" text-anchor="middle">{_clock(tick, total)}</text>'


def lasted(seconds: float) -> str:
    """A time in words: `0.3 s`, `95 s`, `3:07 min`, `2:15 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02} min" if whole < 7200 else f"{whole // 3600}:{whole % 3600 // 60:02} h"


def _clock(seconds: int, total: float) -> str:
    return f"{seconds // 60}:{seconds % 60:02}" if total >= 120 else f"{seconds} s"


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
