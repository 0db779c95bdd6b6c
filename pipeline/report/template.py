"""From what a page says to HTML."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifact.room import size
from pipeline.report.page import Page
from pipeline.report.run import Run
from pipeline.timeline import lasted

if TYPE_CHECKING:
    import jinja2


@cache
def _environment() -> jinja2.Environment:
    import jinja2  # slow to import, and only the process that owns the terminal needs it

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"size": size, "lasted": lasted, "picture": _picture}
    return made


def render(page: Page | Run) -> str:
    """The page as HTML."""
    name = "run" if isinstance(page, Run) else "page"
    return _environment().get_template(f"{name}.html").render({name: page})


def _picture(svg: str) -> str:
    """An SVG as the source of an image: as that it runs no script, and its styles are its own."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
