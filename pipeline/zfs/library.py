"""libzfs_core (pyzfs): found when it is needed first, its errors told in words, and its way of writing properties.

What commands print where there is no room is told in the same words.

A machine without ZFS imports this module as well.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from types import ModuleType

from pipeline.errors import CommandFailed, GoldspawnError, PlaceError

FULL = ("No space left on device", "Disk quota exceeded")
"""What commands print where there is no room (strerror(3) of ENOSPC and EDQUOT)."""

ROOM = "there is no room left in the pool or in the dataset's quota"


class ZfsError(GoldspawnError):
    """An operation that ZFS refused; the message names the operation, the dataset and ZFS's own reason."""


def lzc() -> ModuleType:
    """The module libzfs_core. Raises `PlaceError` if this machine has none."""
    try:
        import libzfs_core  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise PlaceError(
            "the Python module libzfs_core (pyzfs) cannot be imported",
            hint="it belongs to the system's OpenZFS: apt install python3-pyzfs "
            "(and a virtual environment with --system-site-packages)",
        ) from error
    module: ModuleType = libzfs_core
    return module


@contextlib.contextmanager
def explained(act: str, name: str) -> Iterator[None]:
    """Turns what libzfs_core raises in the block into a `ZfsError` about `zfs ACT NAME`."""
    from libzfs_core.exceptions import MultipleOperationsFailure, ZFSError

    try:
        yield
    except MultipleOperationsFailure as error:
        reasons = "; ".join(sorted({f"{type(cause).__name__}: {cause}" for cause in error.errors})) or str(error)
        raise ZfsError(f"zfs {act} {name}: {reasons}", hint=_hint(reasons)) from error
    except ZFSError as error:
        said = getattr(error, "details", None)  # of a channel program: its own message, and a stack below it
        reason = f"{type(error).__name__}: {said.decode().partition(chr(10))[0] if said else error}"
        raise ZfsError(f"zfs {act} {name}: {reason}", hint=_hint(reason)) from error


def _hint(reason: str) -> str | None:
    return ROOM if "NoSpace" in reason or "QuotaExceeded" in reason else None


@contextlib.contextmanager
def room_explained() -> Iterator[None]:
    """Gives a command that writes into a dataset, and fails since there is no room, the hint that says so."""
    try:
        yield
    except CommandFailed as error:
        if any(text in error.tail for text in FULL):
            error.hint = ROOM
        raise


def encoded(properties: Mapping[str, str]) -> dict[bytes, bytes | int]:
    """Properties in the form of zfs(8), as libzfs_core takes them."""
    return {key.encode(): _value(key, value) for key, value in properties.items()}


_INDEX: Mapping[str, Mapping[str, int]] = {
    "atime": {"off": 0, "on": 1},
    "canmount": {"off": 0, "on": 1, "noauto": 2},
    "acltype": {"off": 0, "posix": 1},
    "xattr": {"off": 0, "on": 1, "sa": 2},
    "readonly": {"off": 0, "on": 1},
    "sync": {"standard": 0, "always": 1, "disabled": 2},
    "compression": {"on": 1, "off": 2, "lz4": 15, "zstd": 16, "gzip": 10},
}
"""What libzfs_core wants as an integer: the values of index properties as they stand on disk, and so never change."""


def _value(key: str, value: str) -> bytes | int:
    if key == "compression" and (match := re.fullmatch(r"(gzip|zstd)-(\d+)", value)):
        level = int(match[2])
        # gzip-1 … gzip-9 have values of their own (5 … 13); a level of zstd stands above the seven bits of the method.
        return 4 + level if match[1] == "gzip" else _INDEX["compression"]["zstd"] | level << 7
    if key in _INDEX:
        return _INDEX[key][value]
    if key in ("quota", "refquota"):
        return int(value)
    return value.encode()
