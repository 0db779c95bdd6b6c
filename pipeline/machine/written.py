"""What a machine that is verified writes to directories of the host: it can, as where it ships, and nothing arrives.

Over each such directory lies an overlay whose upper directory is thrown away. systemd-nspawn would make one by itself
(an empty upper in Overlay=), but that belongs to the host's root with mode 755: a machine with user ids of its own
could write nothing there.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.image.containers import PARTS, mapping
from pipeline.machine.settings import Settings, plain

_FIRST, _RANGES, _COUNT = 0x80000, 0x6FF7, 0x10000
"""The ranges of 65536 user ids from which systemd-nspawn picks one (systemd-nspawn(1), --private-users=pick)."""


def apart(settings: Settings, name: str, tree: Path, room: Path) -> Settings:
    """The settings with which what the machine `name`, made of `tree`, writes to the host goes to a folder in `room`.

    `room` is on a file system that overlayfs takes for an upper one (not on an overlay).
    """
    if not settings.written:
        return settings
    users = dict(settings.sections["Exec"])["PrivateUsers"]
    if users == "pick" and any(mapping(value) for _, value in settings.written):
        # Who owns the upper directory has to be known before the machine starts.
        users = str(_FIRST + zlib.crc32(name.encode()) % _RANGES * _COUNT)
    executed = tuple((key, users if key == "PrivateUsers" else value) for key, value in settings.sections["Exec"])
    first = users.partition(":")[0]
    base = int(first) if first.isdigit() else 0
    rows: list[tuple[str, str]] = []
    for number, row in enumerate(settings.sections["Files"]):
        rows += _apart(*row, base, tree, room / str(number)) if row in settings.written else [row]
    return replace(settings, sections={**settings.sections, "Exec": executed, "Files": tuple(rows)})


def _apart(key: str, value: str, base: int, tree: Path, upper: Path) -> Iterator[tuple[str, str]]:
    parts = PARTS.split(value)
    if key == "Overlay":
        _like(upper, Path(plain(parts[-2])))
        yield key, ":".join([*parts[:-1], str(upper), parts[-1]])
        return
    source, where = Path(plain(parts[0])), parts[1] if len(parts) > 1 else parts[0]
    _like(upper, source)
    if not mapping(value):
        yield "Overlay", f"{parts[0]}:{upper}:{where}"
        return
    # Overlayfs cannot be mapped, but what it lies on can. systemd-nspawn mounts a bind before an overlay at its path.
    yield key, value
    yield "Overlay", f"+{where}:{upper}:{where}"
    _owned(upper, source, mapping(value), base, tree / plain(where).lstrip("/"))


def _like(upper: Path, source: Path) -> None:
    """Makes a directory with the owner, the mode and the attributes of another."""
    upper.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    upper.mkdir()
    shutil.copystat(source, upper)
    status = source.stat()
    os.chown(upper, status.st_uid, status.st_gid)


def _owned(upper: Path, source: Path, how: str, base: int, where: Path) -> None:
    """Gives a directory the owner that a mapped bind of `source` over `where` has (systemd-nspawn(1), --bind)."""
    status = source.stat()
    inside = where.stat().st_uid if how == "owneridmap" and where.exists() else 0

    def mapped(number: int) -> int:
        if how == "idmap":
            return base + number
        return base + inside if number == status.st_uid else number

    os.chown(upper, mapped(status.st_uid), mapped(status.st_gid))
