"""A JSON file that a dataclass describes: written, read with one line for what is wrong, and its schema."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.artifact.room import refused
from pipeline.errors import InputError

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid", populate_by_name=True, defer_build=True)
"""How the dataclasses of such files are validated: a key that is not known is an error. Built when first needed."""


class Document(Generic[T]):
    """The file `name` of a folder, which is described by the dataclass `kind` and called `title` in its schema.

    Where `sparse`, what is null is not written.
    """

    def __init__(self, kind: type[T], name: str, title: str, *, sparse: bool = False) -> None:
        self._kind = kind
        self._name = name
        self._title = title
        self._sparse = sparse

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        return TypeAdapter(self._kind)

    def save(self, made: T, path: Path) -> None:
        """Writes the file. Raises `PlaceError` if that cannot be done."""
        data = self._adapter.dump_python(made, mode="json", by_alias=True, exclude_none=self._sparse)
        order = {"schema_version": data.pop("schema_version"), **data}
        try:
            path.write_text(json.dumps(order, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise refused(path, error) from error

    def load(self, path: Path) -> T:
        """Reads it, from its folder or its own path. Raises `InputError`, one line, if it is missing or wrong."""
        if path.is_dir():
            path = path / self._name
        try:
            return self._adapter.validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        except ValidationError as error:
            first, *others = error.errors(include_url=False)
            key = ".".join(str(part) for part in first["loc"])
            more = f" (and {len(others)} more)" if others else ""
            raise InputError(f"{path}: {key + ': ' if key else ''}{first['msg']}{more}") from error

    def schema(self) -> str:
        """Its JSON schema (draft 2020-12), as a file of docs/ holds it."""
        made: dict[str, Any] = self._adapter.json_schema(mode="validation")
        made["required"] = sorted({*made["required"], "schema_version"})
        head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": self._title}
        return json.dumps({**head, **{key: value for key, value in made.items() if key != "title"}}, indent=2) + "\n"
