"""A file that appears whole or not at all."""

from __future__ import annotations

import secrets
from pathlib import Path

from pipeline.errors import PlaceError


def write(path: Path, text: str) -> None:
    """Writes a file, its folder as well where there is none. Raises `PlaceError` if that cannot be done."""
    whole = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            whole.write_text(text, encoding="utf-8")
            whole.replace(path)
        finally:
            whole.unlink(missing_ok=True)
    except OSError as error:
        raise PlaceError(f"{path}: cannot be written ({error.strerror})") from error
