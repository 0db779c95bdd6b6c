"""The names that a shared library gives to others, read from its dynamic symbol table (System V ABI, chapters 4, 5)."""

from __future__ import annotations

import struct
from pathlib import Path

_DYNSYM = 11
_SECTION = {1: "IIIIIIIIII", 2: "IIQQQQIIQQ"}
_SYMBOL = {1: "IIIBBH", 2: "IBBHQQ"}


def exports(path: Path) -> frozenset[str]:
    """The global and weak symbols that a file defines; none for what is no ELF file or has no such table."""
    try:
        data = path.read_bytes()
        return _exports(data)
    except (OSError, struct.error, IndexError, KeyError):
        return frozenset()


def _exports(data: bytes) -> frozenset[str]:
    if data[:4] != b"\x7fELF":
        return frozenset()
    wide = data[4]
    order = "<" if data[5] == 1 else ">"
    header = struct.Struct(order + ("HHIQQQIHHHHHH" if wide == 2 else "HHIIIIIHHHHHH")).unpack_from(data, 16)
    start, size, count = header[5], header[10], header[11]
    section = struct.Struct(order + _SECTION[wide])
    sections = [section.unpack_from(data, start + size * index) for index in range(count)]
    names: set[str] = set()
    symbol = struct.Struct(order + _SYMBOL[wide])
    for entry in sections:
        if entry[1] != _DYNSYM:
            continue
        strings = sections[entry[6]][4]
        for offset in range(entry[4], entry[4] + entry[5], symbol.size):
            fields = symbol.unpack_from(data, offset)
            name, info, index = (fields[0], fields[1], fields[3]) if wide == 2 else (fields[0], fields[3], fields[5])
            if name and index and info >> 4 in (1, 2):
                end = data.index(b"\0", strings + name)
                names.add(data[strings + name : end].decode(errors="replace"))
    return frozenset(names)
