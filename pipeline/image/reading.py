"""From folders to images: reading, validating. All that is wrong is told at once, before anything is made."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import InputError
from pipeline.image.definition import Definition, Image, adapter
from pipeline.image.problems import problems
from pipeline.image.values import NAME, NAME_RULE

FILE = "image.toml"
"""What makes a folder an image."""


def check_name(name: str) -> None:
    """Raises `InputError` for what cannot be the name of an image: of a machine and of a dataset at once."""
    if problem := _name_problem(name):
        raise InputError(problem)


def load(folder: Path, elsewhere: Sequence[Path] = (), *, above: tuple[str, ...] = ()) -> Image:
    """Reads the image in `folder`, and those that it stands on: beside it, or below the folders `elsewhere`.

    `above` are the names of those that stand on it. Raises `InputError` whose message has a line for each problem, with
    the file, the key and what would be right.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 (not resolve(): a link's own name is the image's)
    file = folder / FILE
    lines = [f"{shown(folder)}: {problem}"] if (problem := _name_problem(folder.name)) else []
    data, wrong = _parse(file)
    lines += wrong
    definition: Definition | None = None
    if not wrong:
        try:
            definition = adapter(Definition).validate_python(data, context={"folder": folder})
        except ValidationError as error:
            lines += [f"{shown(file)}: {line}" for line in problems(error)]
    if (folder / "root").exists() and not (folder / "root").is_dir():
        lines.append(f"{shown(folder / 'root')}: expected a folder with files for the root file system")
    if lines or definition is None:
        raise InputError("\n".join(lines))
    base = None
    if definition.base is not None:
        base = load(_base(file, definition.base, elsewhere, above), elsewhere, above=(*above, folder.name))
    return Image(
        folder.name,
        folder,
        definition.description,
        base.bootstrap if base is not None else definition.bootstrap,
        definition.profile,
        definition.boot,
        definition.nspawn,
        definition.service,
        definition.secrets,
        definition.checks,
        definition.artifact,
        base,
    )


def _base(file: Path, name: str, elsewhere: Sequence[Path], above: tuple[str, ...]) -> Path:
    """The folder of the image that `file` names as its base."""
    chain = (*above, file.parent.name, name)
    if name in chain[:-1]:
        raise InputError(f"{shown(file)}: from: a circle: {' → '.join(chain[chain.index(name) :])}")
    beside = file.parent.parent
    found = [beside / name / FILE, *(path for place in elsewhere for path in sorted(place.rglob(f"{name}/{FILE}")))]
    for path in found:
        if path.is_file():
            return path.parent
    import difflib  # slow to import, and seldom needed

    known = {path.parent.name for place in (beside, *elsewhere) for path in place.glob(f"*/{FILE}")}
    near = difflib.get_close_matches(name, known, 1)
    hint = f'; did you mean "{near[0]}"?' if near else f" in {shown(beside)}"
    raise InputError(f'{shown(file)}: from: there is no image "{name}"{hint} ({" → ".join(chain)})')


def shown(path: Path) -> str:
    """A path as a user would type it: relative where it lies below the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, FileNotFoundError):
        return str(path)


def _name_problem(name: str) -> str | None:
    if NAME.fullmatch(name):
        return None
    long = f" ({len(name)} characters)" if len(name) > 64 else ""
    return f'"{name}"{long} cannot be the name of an image; expected {NAME_RULE}'


def _parse(file: Path) -> tuple[dict[str, Any], list[str]]:
    """What a TOML file holds, or what is wrong with it."""
    name = shown(file)
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")), []
    except FileNotFoundError:
        return {}, [f"{name}: there is no such file"]
    except OSError as error:
        return {}, [f"{name}: cannot be read: {error.strerror}"]
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return {}, [f"{name}: line {line}: expected text in UTF-8"]
    except tomllib.TOMLDecodeError as error:
        return {}, [f"{name}: no valid TOML: {error}"]
