"""Credentials that ship (systemd.exec(5)): `boot.credentials` of image.toml, and how systemd-nspawn takes them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from pipeline.bootstrap.values import Text, matching

_MOST = 16 << 10
"""Bytes of all of a machine's together. On a command line each may take five (an argument has 128 KiB at most), and a
line of a unit file may be 1 MiB long.
"""

CredentialName = Annotated[
    Text,
    matching(
        r"[A-Za-z0-9_][A-Za-z0-9@~+._-]{0,254}",
        'the name of a credential such as "firstboot.locale": letters, digits and any of @~+._-, 255 at most',
    ),
]


def _bounded(values: dict[str, str]) -> dict[str, str]:
    total = sum(len(value.encode()) for value in values.values())
    if total > _MOST:
        message = "expected {most} bytes at most in all, got {total}; what is longer is a file in root/"
        raise PydanticCustomError("goldspawn", message, {"most": _MOST, "total": total})
    return values


Credentials = Annotated[dict[CredentialName, Text], AfterValidator(_bounded)]


def option(name: str, value: str) -> str:
    """The option of systemd-nspawn that gives a machine a credential.

    It undoes C's escapes in the value (systemd-nspawn(1), --set-credential). All but plain characters are written so:
    then nothing is left in it that a unit file or systemd-run would take for a quote, a variable or a specifier.
    """
    plain = re.compile(rb"[A-Za-z0-9@~+._,:/=-]")
    escaped = "".join(chr(byte) if plain.match(bytes([byte])) else f"\\x{byte:02x}" for byte in value.encode())
    return f"--set-credential={name}:{escaped}"


def in_unit_file(argument: str) -> str:
    """An argument as ExecStart= of a unit file has it, which undoes one more backslash (systemd.service(5))."""
    return argument.replace("\\", r"\\")
