"""What is wrong with an image.toml, a line each: where, what was expected, what stands there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError

from pipeline import bootstrap
from pipeline.bootstrap.values import show
from pipeline.image.definition import Definition

_EXPECTED = {
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "tuple_type": "a list",
    "dataclass_type": "a table",
    "dict_type": "a table",
}

Location = tuple[str | int, ...]


def problems(error: ValidationError) -> list[str]:
    """Each mistake of a file as one line, without the file's name."""
    return [_line(one["type"], tuple(one["loc"]), one) for one in error.errors(include_url=False)]


def _line(kind: str, loc: Location, error: Any) -> str:
    where = _where(loc)
    value = error["input"]
    context = error.get("ctx", {})
    if kind == "unexpected_keyword_argument":
        return f"{where}: unknown key; {_nearest(loc)}"
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{where}: missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _method(where, value)
    if kind in _EXPECTED:
        return f"{where}: expected {_EXPECTED[kind]}, got {show(value)}"
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        bound = next(iter(context.values()))
        word = {"greater_than_equal": "at least", "greater_than": "more than", "less_than_equal": "at most"}
        return f"{where}: expected {word.get(kind, 'less than')} {bound:g}, got {value}"
    if kind == "too_short":
        return f"{where}: expected at least {context['min_length']} entry, got none"
    return f"{where}: {error['msg']}"


def _where(loc: Location) -> str:
    text = ""
    for part in _without_tags(loc):
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "the file"


def _without_tags(loc: Location) -> Location:
    """A location as the file has it: pydantic puts the chosen method after `bootstrap`."""
    return (loc[0], *loc[2:]) if len(loc) > 1 and loc[0] == "bootstrap" else loc


def _method(where: str, value: object) -> str:
    if not isinstance(value, dict):
        return f"{where}: expected a table, got {show(value)}"
    method = value["method"]
    if not isinstance(method, str):
        return f"{where}.method: expected a string, got {show(method)}"
    names = list(bootstrap.known())
    return f'{where}.method: unknown method "{method}"; {_suggest(method, names)}'


def _nearest(loc: Location) -> str:
    key = str(loc[-1])
    keys = [field.name for field in dataclasses.fields(_table(loc[:-1]))]
    if not _close(key, keys):
        for section in _SECTIONS:
            if key in {field.name for field in dataclasses.fields(_table(tuple(section.split("."))))}:
                return f'did you mean "{section}.{key}"?'
    return _suggest(key, keys)


def _suggest(word: str, known: Sequence[str]) -> str:
    near = _close(word, known)
    return f'did you mean "{near}"?' if near else f"known here: {', '.join(known)}"


def _close(word: str, known: Sequence[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word.lower().replace("-", "_"), known, 1)), None)


_SECTIONS = ("profile", "boot", "nspawn.exec", "nspawn.files", "nspawn.network", "service", "checks", "artifact")


def _table(loc: Location) -> type[Any]:
    """The dataclass that describes the table at a location."""
    kind: Any = Definition
    rest = list(loc)
    while rest:
        part = rest.pop(0)
        if isinstance(part, int):
            continue
        if part == "bootstrap" and kind is Definition:
            kind = bootstrap.get(str(rest.pop(0))).settings
            continue
        annotation = kind.__pydantic_fields__[part].annotation
        if get_origin(annotation) is dict and rest:
            rest.pop(0)  # the name of one of the tables
        kind = next(_dataclasses_in(annotation))
    found: type[Any] = kind
    return found


def _dataclasses_in(annotation: Any) -> Iterator[type[Any]]:
    """The dataclasses of an annotation such as `tuple[User, ...]` or `Boot | None`."""
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        yield annotation
    elif get_origin(annotation) in (dict, tuple, Union, UnionType) or hasattr(annotation, "__metadata__"):
        for argument in get_args(annotation):
            yield from _dataclasses_in(argument)
