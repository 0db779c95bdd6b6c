"""The rules of single values of image.toml. Each error says what would be right."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from pipeline.bootstrap.values import Text, matching, refuse, unique

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
NAME_RULE = "1 to 64 lower case letters, digits and hyphens, no hyphen first or last"
"""A name of an image is one of a machine (hostname_is_valid of systemd) and of a dataset (zfs(8)) at once."""

ImageName = Annotated[Text, matching(NAME.pattern, f"the name of an image: {NAME_RULE}")]

UNIT_TYPES = ("service", "socket", "target", "timer", "path", "mount", "automount", "swap", "slice", "device", "scope")
COMPRESSION = (
    "zstd", *(f"zstd-{level}" for level in range(1, 20)), "lz4", "gzip", *(f"gzip-{level}" for level in range(1, 10)),
    "off",
)  # fmt: skip

UNIT = rf"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?\.({'|'.join(UNIT_TYPES)})"
UNIT_RULE = 'the name of a unit with its type, such as "nginx.service"'

Unit = Annotated[Text, matching(UNIT, UNIT_RULE)]
Units = Annotated[tuple[Unit, ...], unique("unit")]

AccountName = Annotated[
    Text,
    matching(
        r"[a-z_][a-z0-9_-]{0,30}[a-z0-9_$-]?",
        "a name of at most 32 lower case letters, digits, hyphens and underscores that begins with a letter",
    ),
]

AbsolutePath = Annotated[Text, matching(r"/[^\n:\0]*", 'an absolute path such as "/srv/web"')]

AccountId = Annotated[int, Field(strict=True, ge=0, le=65533)]
"""A number of a user or group: a machine with private users has 65536 of them, the last two of no use."""

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
Hostname = Annotated[
    Text, matching(rf"(?=.{{1,64}}\Z){_LABEL}(\.{_LABEL})*", 'a host name such as "web1" or "web1.example.org"')
]

Locale = Annotated[
    Text,
    matching(r"POSIX|(C|[a-z]{2,3}(_[A-Z]{2})?)(\.[A-Za-z0-9-]+)?(@[a-z]+)?", 'a locale such as "C.UTF-8"'),
]  # fmt: skip

AuthorizedKey = Annotated[
    Text,
    matching(
        r"([^\n]*\s)?(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ AAAA[A-Za-z0-9+/]+=*( [^\n]*)?",
        'a public key as in authorized_keys, such as "ssh-ed25519 AAAA… admin"',
    ),
]

Command = Annotated[Text, matching(r"(?s).*\S.*", "a command for sh")]


def _size(value: object) -> object:
    is_text = isinstance(value, str) and re.fullmatch(r"[1-9][0-9]*[KMGT]?", value)
    if is_text or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise refuse('a size such as "512M"', value)


Size = Annotated[
    str | int,
    BeforeValidator(_size),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": "^[1-9][0-9]*[KMGT]?$"}, {"type": "integer", "minimum": 1}]}
    ),
]
"""Bytes: a number, or text with K, M, G or T (powers of 1024), as systemd has it."""


def in_bytes(size: str | int) -> int:
    """A `Size` as a number of bytes."""
    if isinstance(size, int):
        return size
    power = "KMGT".find(size[-1]) + 1
    return int(size[:-1] if power else size) << 10 * power


def _timezone(value: str) -> str:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        zones = zoneinfo.available_timezones()
        if not zones and re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", value):
            return value  # this machine has no data to know better; the tree's own is asked when it is there
        raise _wrong_zone(value, sorted(zones)) from error
    return value


def _wrong_zone(value: str, zones: list[str]) -> PydanticCustomError:
    from difflib import get_close_matches

    last = value.rsplit("/", 1)[-1].lower()
    near = [zone for zone in zones if zone.rsplit("/", 1)[-1].lower() == last] or get_close_matches(value, zones, 1)
    return refuse(f'a time zone such as "{near[0] if near else "Europe/Berlin"}"', value)


Timezone = Annotated[Text, AfterValidator(_timezone)]


def _compression(value: str) -> str:
    if value not in COMPRESSION:
        raise refuse('"zstd", "zstd-1" to "zstd-19", "lz4", "gzip", "gzip-1" to "gzip-9" or "off"', value)
    return value


Compression = Annotated[
    Text, AfterValidator(_compression), Field(json_schema_extra={"enum": list(COMPRESSION)})
]  # fmt: skip


def _password(value: str) -> str:
    if value != "locked" and not re.fullmatch(r"\$[A-Za-z0-9]+\$[^:\s]+", value):
        # Whatever stands there may be a password: it is not repeated.
        message = 'expected "locked", or a hash as mkpasswd prints it ("$y$…")'
        raise PydanticCustomError("goldspawn", message)
    return value


Password = Annotated[Text, AfterValidator(_password)]
