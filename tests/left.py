"""What an image like any other leaves in a pool, and where its next build starts: what tests of reuse share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.reuse.inputs import Keys
from pipeline.reuse.plan import Policy, Start, plan, reads_mark
from pipeline.reuse.world import Source, as_text
from pipeline.zfs import Entry

NOW = 1_800_000_000.0
MIRROR = Source("index", "http://m/debian/dists/trixie/InRelease", "a" * 64, 5)

TEXT = """
description = "all that a stage reads"
[bootstrap]
suite = "trixie"
packages = ["ca-certificates"]
components = ["main"]
[[bootstrap.repositories]]
uri = "https://example.org/debian"
suite = "trixie"
key = "keys/one.asc"
[profile]
packages = ["nginx", "curl"]
enable = ["nginx.service"]
timezone = "Europe/Berlin"
run = ["true"]
[[profile.users]]
name = "ops"
[boot]
memory_max = "512M"
[artifact]
compression = "zstd"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image that uses everything."""
    made = tmp_path / "all1"
    (made / "keys").mkdir(parents=True)
    (made / "keys/one.asc").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    for name in ("etc/motd", "srv/www/index.html", "usr/local/bin/tool"):
        (made / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (made / "root" / name).write_text(name)
    (made / "root/usr/local/bin/link").symlink_to("tool")
    (made / "image.toml").write_text(TEXT)
    (made / "test_all1.py").write_text("def test_nothing(machine): pass\n")
    return made


def left_by(known: Keys, *, made: float = NOW - 100, world: Sequence[Source] = (MIRROR,)) -> list[Entry]:
    """The snapshots that a whole build with these inputs leaves."""
    common = {"made": str(made), "current": str(made), "world": as_text(world)}
    found = [
        Entry(f"p/bootstrap/{one.key[:16]}-1@tree", "snapshot", {**common, "stage": one.stage, "inputs": one.key[:16]})
        for one in known.inputs[:-1]
    ]
    told = {**common, "stage": "candidate", "inputs": known.candidate, "reads": reads_mark(known)}
    return [*found, Entry("p/golden/all1@1", "snapshot", told)]


def quiet(sources: Sequence[Source]) -> list[str]:
    return []


def start(entries: Sequence[Entry], known: Keys, policy: Policy | None = None, moved: object = quiet) -> Start:
    assert callable(moved)
    return plan(entries, known, policy or Policy(), now=NOW, moved=moved)
