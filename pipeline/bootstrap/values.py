"""Values of image.toml that more than one section uses: strict types, and text with rules of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError

Text = Annotated[str, StringConstraints(strict=True)]
"""A string and nothing that could be made one."""


def refuse(expected: str, value: object) -> PydanticCustomError:
    """The error for a value that is of the right type and still wrong: `expected` says what would be right."""
    return PydanticCustomError(
        "goldspawn", "expected {expected}, got {got}", {"expected": expected, "got": show(value)}
    )


def show(value: object) -> str:
    """A value as TOML has it, with its type where that is not plain."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return f"{str(value).lower()} (boolean)"
    names = {int: "integer", float: "float", list: "list", dict: "table"}
    name = names.get(type(value), type(value).__name__)
    return f"a {name}" if isinstance(value, (list, dict)) else f"{value} ({name})"


def matching(pattern: str, expected: str) -> AfterValidator:
    """A rule for text: the whole of it matches `pattern`, else the error says that `expected` was."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise refuse(expected, value)
        return value

    return AfterValidator(check)


def _beside(value: str, info: ValidationInfo) -> str:
    folder: Path | None = (info.context or {}).get("folder")
    if folder is None:
        return value
    path = folder / value
    if not path.is_file():
        raise PydanticCustomError("goldspawn", "there is no file {path}", {"path": str(path)})
    try:
        path.open("rb").close()
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise PydanticCustomError("goldspawn", "{path}: {reason}", {"path": str(path), "reason": reason}) from error
    return value


def _folder_beside(value: str, info: ValidationInfo) -> str:
    folder: Path | None = (info.context or {}).get("folder")
    # An image with a conftest.py of its own may make it before the build (pytest_goldspawn_prepare).
    if folder is not None and not (folder / value).is_dir() and not (folder / "conftest.py").exists():
        raise PydanticCustomError("goldspawn", "there is no directory {path}", {"path": str(folder / value)})
    return value


def unique(what: str, key: Callable[[Any], object] = lambda item: item) -> AfterValidator:
    """A rule for lists: no two entries of the same `key`."""

    def check(items: tuple[Any, ...]) -> tuple[Any, ...]:
        seen: set[object] = set()
        for item in items:
            if key(item) in seen:
                values = {"what": what, "name": str(key(item))}
                raise PydanticCustomError("goldspawn", '{what} "{name}" stands there twice', values)
            seen.add(key(item))
        return items

    return AfterValidator(check)


File = Annotated[Text, AfterValidator(_beside)]
"""A file that is there; a relative path is relative to the image's folder."""

Folder = Annotated[Text, AfterValidator(_folder_beside)]
"""A directory that is there; a relative path is relative to the image's folder."""

Count = Annotated[int, Field(strict=True, ge=1)]

Package = Annotated[Text, matching(r"[A-Za-z0-9][A-Za-z0-9@+._:/=~*<>\[\],-]*", "the name of a package")]
"""What a package manager takes for a package: a Debian name (with =version, :arch, /suite) or a Portage atom."""

Packages = Annotated[tuple[Package, ...], unique("package")]

Uri = Annotated[
    Text,
    matching(r"(https?|file|ftp|tor\+https?|mirror\+https?)://?[^\s\"']+|(cdrom|copy):[^\s\"']+", 'a URI such as "https://…/debian"'),
]  # fmt: skip
