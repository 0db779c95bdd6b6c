"""Keys of image.toml that become directives of systemd's files: under which name, and as which lines."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from typing import Any, cast, get_type_hints


@dataclasses.dataclass(frozen=True)
class Directive:
    """The name of the directive that a key becomes, where that is not its words in capitals (`memory_max`: MemoryMax).

    With `together` the values of a list stand in one line, in which spaces part them, else in a line each. `denying` is
    for a list in which ~ before a value turns its meaning: systemd looks for one at the start of a line and takes it
    for the whole line, so each meaning has a line. `quoted` is for those which systemd splits into words. With `keyed`
    each entry of a table is a directive of its own, named by its key (`limits = {core = …}`: LimitCORE).
    """

    name: str = ""
    together: bool = False
    denying: bool = False
    quoted: bool = False
    keyed: bool = False


def lines(section: Any) -> Iterator[tuple[str, str]]:
    """A section as directives and their values: those only that say something else than systemd's own default."""
    for field in dataclasses.fields(section):
        directive = _directives(section.__class__)[field.name]
        value = getattr(section, field.name)
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if value is None or (value == default and value in (False, (), {}, "no")):
            continue
        yield from _lines(directive, value)


def _lines(directive: Directive, value: Any) -> Iterator[tuple[str, str]]:
    if directive.keyed:
        yield from ((f"{directive.name}{key.upper()}", str(one)) for key, one in value.items())
        return
    if isinstance(value, Mapping):
        value = tuple(f"{key}={one}" for key, one in value.items())
    if isinstance(value, bool):
        value = "yes" if value else "no"
    several = value if isinstance(value, tuple) else (value,)
    if directive.denying:
        denied = [one.removeprefix("~") for one in several if one.startswith("~")]
        rows = (" ".join(one for one in several if not one.startswith("~")), f"~{' '.join(denied)}" if denied else "")
        yield from ((directive.name, row) for row in rows if row)
        return
    values = [_quoted(str(one)) if directive.quoted else str(one) for one in several]
    yield from ((directive.name, one) for one in ([" ".join(values)] if directive.together else values))


def _quoted(value: str) -> str:
    """A word as Parameters= and Environment= of a .nspawn file take it.

    A backslash has no meaning there, so a quote stands between those of the other kind; what is quoted and touches is
    one word (tried with systemd 257).
    """
    parts = re.findall(r'"+|[^"]+', value)
    return "".join(f"'{part}'" if part[0] == '"' else f'"{part}"' for part in parts) or '""'


@cache
def _directives(kind: Hashable) -> Mapping[str, Directive]:
    found = {}
    for name, hint in get_type_hints(cast(Any, kind), include_extras=True).items():
        said = next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Directive)), Directive())
        words = "".join(word.capitalize() for word in name.split("_"))
        found[name] = dataclasses.replace(said, name=said.name or words)
    return found
