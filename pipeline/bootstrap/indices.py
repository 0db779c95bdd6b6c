"""The package indices that a Debian tree was filled from: what its apt fetched, and where each came from.

Reads sources.list(5) in both of its formats, and apt's lists: a list's name is its address, escaped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.reuse.world import Source, index

LISTS = "var/lib/apt/lists"
_NAMES = ("InRelease", "Release")
_ASKED = ("http://", "https://", "file:///")


def indices(tree: Path) -> tuple[Source, ...]:
    """The signed index of each suite of each repository in the tree's sources, as its apt has fetched it.

    One that cannot be asked for with a plain request (`mirror+https:`), or that apt has not kept, counts by its age.
    """
    return tuple(_source(tree, uri, suite) for uri, suite in dict.fromkeys(_repositories(tree)))


def _source(tree: Path, uri: str, suite: str) -> Source:
    base = uri.rstrip("/") + "/"
    folder = base + suite.removeprefix("./") if suite.endswith("/") else f"{base}dists/{suite}/"
    if uri.startswith(_ASKED):
        for name in _NAMES:
            file = tree / LISTS / _list_name(folder + name)
            if file.is_file():
                return index(folder + name, file)
    return Source("age", folder, time=int(time.time()))


def _list_name(uri: str) -> str:
    """As apt's URItoFileName: without the scheme, `_` escaped, and each `/` then an `_`."""
    return uri.split("://", 1)[-1].replace("_", "%5f").replace("/", "_")


def _repositories(tree: Path) -> Iterator[tuple[str, str]]:
    folder = tree / "etc/apt/sources.list.d"
    for file in (tree / "etc/apt/sources.list", *sorted(folder.glob("*.list"))):
        if file.is_file():
            for line in file.read_text(errors="replace").splitlines():
                if row := re.match(r"\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)", line):
                    yield row[1], row[2]
    for file in sorted(folder.glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text(errors="replace")):
            yield from _of_stanza(stanza)


def _of_stanza(stanza: str) -> Iterator[tuple[str, str]]:
    fields = {
        name.lower(): value.split()
        for name, value in re.findall(r"^([A-Za-z-]+):[ \t]*((?:.*)(?:\n[ \t]+.*)*)", stanza, re.M)
    }
    if "deb" in fields.get("types", ()) and fields.get("enabled", ["yes"]) != ["no"]:
        for uri in fields.get("uris", ()):
            for suite in fields.get("suites", ()):
                yield uri, suite
