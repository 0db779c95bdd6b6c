"""What ZFS knows of datasets, snapshots and bookmarks.

A single dataset is asked about by a channel program (zfs-program(8)), which starts no process: 4 ms in the emulated
appliance, where `zfs get` takes 60 to 100. Of a whole tree zfs(8) tells in less time: 7 ms for each entry with all of
its properties, where a program takes 4, and 2.4 more for each property.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from pipeline.command import output
from pipeline.errors import CommandFailed
from pipeline.zfs.library import explained, lzc

PREFIX = "org.goldspawn:"
"""Prefix of our user properties (zfsprops(7): a module prefix with a colon)."""

MARKS = (
    "owner", "stage", "inputs", "reads", "made", "world", "current", "cycles", "tree", "verdict", "process", "began",
    "times",
)  # fmt: skip
"""All of our user properties, without the prefix."""

_GONE = "dataset does not exist"
"""What zfs(8) says of a dataset that is not there, or that went away while it walked the tree."""


@dataclass(frozen=True)
class Entry:
    """One dataset or snapshot: its name, kind ("filesystem", "snapshot") and our own user properties.

    `properties` holds those set on the entry itself (not inherited), without the prefix.
    """

    name: str
    kind: str
    properties: Mapping[str, str]


@dataclass(frozen=True)
class Usage:
    """What a dataset or snapshot uses alone (bytes), when it was created (Unix time), the snapshot of which it is a
    clone, the datasets that are clones of it, and whether somebody holds it.
    """

    name: str
    used: int
    created: float
    origin: str
    clones: tuple[str, ...]
    holds: bool


_SAME = ("available", "clones", "compression", "guid", "logicalreferenced", "origin", "userrefs")
"""Properties of which a program and `zfs get -p` say the same (tests/test_zfs.py). Of others they do not: before 2025 a
program called each dataset unencrypted (openzfs issue 12337), and what was sent in the belief was in plain text."""

_read_again = retry(
    retry=retry_if_exception(lambda error: isinstance(error, CommandFailed) and _GONE in error.tail),
    wait=wait_fixed(0.2),
    stop=stop_after_delay(30),
    reraise=True,
)
"""Another session may destroy a dataset while a listing is on its way: then it is read anew."""


def exists(name: str) -> bool:
    """Whether there is such a dataset or snapshot."""
    return bool(lzc().lzc_exists(name.encode()))


def value(name: str, key: str) -> str:
    """One native property in the form of `zfs get -p` (bytes, seconds since the epoch), "-" where it has none.

    Raises `ZfsError`, or `CommandFailed` for a property that is not `_SAME`, where there is no such dataset.
    """
    if key not in _SAME:
        return output(["zfs", "get", "-Hp", "-o", "value", key, name]).stdout.strip()
    program = 'return {value = zfs.get_prop(argument["name"], argument["key"])}'
    told = _run(program, f"get {key}", name, key=key).get("value", "-")
    return (",".join(told[one] for one in sorted(told, key=int)) or "-") if isinstance(told, dict) else str(told)


def marks(name: str) -> dict[str, str]:
    """Our user properties that are set on a dataset or snapshot itself, without the prefix.

    {} where there is no such one.
    """
    told = _run(_MARKS, "get all", name)
    return {mark: told[PREFIX + mark] for mark in MARKS if PREFIX + mark in told}


def points(name: str) -> list[tuple[str, str]]:
    """The names and guids of a dataset's own snapshots and bookmarks, the oldest first; [] where there is no such
    dataset. Raises `ZfsError`.
    """
    if not exists(name):
        return []
    found = {one: (told["createtxg"], told["guid"]) for one, told in _run(_SNAPSHOTS, "list -t snapshot", name).items()}
    with explained("list -t bookmark", name):
        marked = _decoded(lzc().lzc_get_bookmarks(name.encode(), [b"createtxg", b"guid"]))
    found |= {f"{name}#{one}": (told["createtxg"]["value"], told["guid"]["value"]) for one, told in marked.items()}
    return [(one, str(found[one][1])) for one in sorted(found, key=lambda one: int(found[one][0]))]


@_read_again
def entries(name: str, *, depth: int | None = None) -> list[Entry]:
    """The dataset itself and all below it, snapshots included, with our marks; [] where there is none.

    `depth` as zfs-list(8) has it. One call, whatever the number.
    """
    if not exists(name):
        return []
    reach = ["-r"] if depth is None else ["-d", str(depth)]
    keys = ",".join(["type", *(PREFIX + mark for mark in MARKS)])
    argv = [
        "zfs",
        "get",
        "-Hp",
        *reach,
        "-t",
        "filesystem,snapshot",
        "-o",
        "name,property,value,source",
        keys,
        name,
    ]
    kinds: dict[str, str] = {}
    kept: dict[str, dict[str, str]] = {}
    for line in output(argv).stdout.splitlines():
        dataset, key, text, source = line.split("\t")
        if key == "type":
            kinds[dataset] = text
        elif source == "local":
            kept.setdefault(dataset, {})[key.removeprefix(PREFIX)] = text
    return [Entry(dataset, kind, kept.get(dataset, {})) for dataset, kind in kinds.items()]


@_read_again
def usage(name: str) -> list[Usage]:
    """The dataset and all below it, snapshots included: what they use, what they stand on, what stands on them.

    [] where there is none.
    """
    if not exists(name):
        return []
    argv = [
        "zfs",
        "list",
        "-Hp",
        "-r",
        "-t",
        "filesystem,snapshot",
        "-o",
        "name,used,creation,origin,clones,userrefs",
    ]
    found = []
    for line in output([*argv, name]).stdout.splitlines():
        dataset, used, created, origin, clones, holds = line.split("\t")
        found.append(
            Usage(
                dataset, int(used), float(created), "" if origin == "-" else origin,
                tuple(clone for clone in clones.split(",") if clone not in ("", "-")), holds not in ("0", "-"),
            )
        )  # fmt: skip
    return found


# The source of a property is the dataset where it was set; that of a received one is no dataset.
_MARKS = """
local own = {}
if not zfs.exists(argument["name"]) then return own end
for key, value, source in zfs.list.user_properties(argument["name"]) do
    if source == argument["name"] then own[key] = value end
end
return own
"""

_SNAPSHOTS = """
local all = {}
for name in zfs.list.snapshots(argument["name"]) do
    all[name] = {guid = zfs.get_prop(name, "guid"), createtxg = zfs.get_prop(name, "createtxg")}
end
return all
"""


def _run(program: str, act: str, name: str, **arguments: str) -> dict[str, Any]:
    """What a channel program returns for a dataset: a table. `act` is what zfs(8) would be asked to do."""
    pool = name.partition("@")[0].partition("/")[0]
    given = {key.encode(): text.encode() for key, text in {"name": name, **arguments}.items()}
    with explained(act, name):
        answer = lzc().lzc_channel_program_nosync(
            pool.encode(), f'local argument = (...)["argv"]\n{program}'.encode(), params=given
        )
    decoded: dict[str, Any] = _decoded(answer)
    return decoded


def _decoded(told: Any) -> Any:
    """Texts instead of bytes, and numbers without a sign: Lua has only signed ones, ZFS none (half of all guids)."""
    if isinstance(told, dict):
        return {key.decode(): _decoded(one) for key, one in told.items()}
    if isinstance(told, int):
        return told % (1 << 64)
    return told.decode() if isinstance(told, bytes) else told
