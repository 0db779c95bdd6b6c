"""Listings of trees that are kept: what was touched is read again, what is damaged is not believed."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifact import tree, walk
from pipeline.lineage import listings
from pipeline.lineage.listings import Listings
from tests.test_graft import CAPABILITY, contents, dress, grow


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "one").write_text("one")
    (folder / "again").hardlink_to(folder / "one")
    (folder / "link").symlink_to("one")
    return folder


@pytest.mark.parametrize("seed", range(30))
def test_what_was_kept_is_the_tree(seed: int, tmp_path: Path) -> None:
    grow(tmp_path / "root", random.Random(seed))
    (tmp_path / "root" / os.fsdecode(b"\xff\xfe")).write_text("a name that is no text")
    kept = Listings(tmp_path / "listings")
    assert kept.of("17") == []
    listed = list(walk.entries(tmp_path / "root"))
    kept.keep("17", listed)
    assert kept.of("17") == listed
    assert list(walk.entries(tmp_path / "root", known=walk.known_by(listed))) == listed


def test_what_is_known_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = list(walk.entries(root))
    for name in ("_contents", "_target"):
        monkeypatch.setattr(walk, name, lambda *args, **kwargs: pytest.fail("was read"))
    known = walk.known_by(listed)
    with pytest.raises(pytest.fail.Exception):
        list(walk.entries(root))
    assert list(walk.entries(root, known=known)) == listed


CHANGES: dict[str, Callable[[Path], object]] = {
    "contents": lambda root: (root / "one").write_text("two"),
    "mode": lambda root: (root / "one").chmod(0o4755),
    "owner": lambda root: os.chown(root / "one", 7, 8),
    "owner of a link": lambda root: os.chown(root / "link", 7, 8, follow_symlinks=False),
    "attribute": lambda root: os.setxattr(root / "one", "trusted.note", b"1"),
    "attribute of a directory": lambda root: os.setxattr(root, "trusted.note", b"1"),
    "capability": lambda root: os.setxattr(root / "one", "security.capability", CAPABILITY),
    "target": lambda root: ((root / "link").unlink(), (root / "link").symlink_to("two")),
    "type": lambda root: ((root / "link").unlink(), (root / "link").mkdir()),
    "first name": lambda root: (root / "again").unlink(),
    "further name": lambda root: (root / "more").hardlink_to(root / "one"),
    "name": lambda root: (root / "one").rename(root / "other"),
    "two names swapped": lambda root: (
        (root / "link").rename(root / "kept"),
        (root / "one").rename(root / "link"),
        (root / "kept").rename(root / "one"),
    ),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="owners and capabilities need root")
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_done_is_seen_even_with_its_time_put_back(change: str, root: Path) -> None:
    before, known = tree.digest(root), walk.known_by(walk.entries(root))
    times = {path.name: path.lstat().st_mtime_ns for path in root.iterdir()}
    time.sleep(0.02)  # the kernel's clock for files has ticks of up to 10 ms
    CHANGES[change](root)
    for path in root.iterdir():
        modified = times.get(path.name, path.lstat().st_mtime_ns)
        if path.lstat().st_mtime_ns != modified:
            os.utime(path, ns=(0, modified), follow_symlinks=False)
    after = tree.digest_of(walk.entries(root, known=known))
    assert after == tree.digest(root) != before


@pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and capabilities need root")
@pytest.mark.parametrize("seed", range(50))
def test_after_any_changes_a_walk_with_what_is_known_sees_what_one_without_sees(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    root = tmp_path / "root"
    grow(root, dice)
    known = walk.known_by(walk.entries(root))
    time.sleep(0.02)
    for path in sorted(root.rglob("*")):
        act = dice.choice(("leave", "leave", "dress", "write", "move", "remove", "link"))
        if act == "dress":
            dress(path, dice)
        elif act == "write" and path.is_file() and not path.is_symlink():
            path.write_bytes(contents(dice))
        elif act == "move" and not path.is_dir():
            path.rename(path.with_name(f"{path.name}-moved"))
        elif act == "remove" and not path.is_dir():
            path.unlink()
        elif act == "link" and not path.is_dir():
            os.link(path, path.with_name(f"{path.name}-too"), follow_symlinks=False)
    assert list(walk.entries(root, known=known)) == list(walk.entries(root))


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-5], lambda data: data[:9] + b"xyz" + data[12:], lambda data: b"", lambda data: b"x\n"],
)
def test_what_is_damaged_is_not_believed(damage: Callable[[bytes], bytes], root: Path, tmp_path: Path) -> None:
    kept = Listings(tmp_path / "listings")
    kept.keep("17", walk.entries(root))
    file = tmp_path / "listings/17"
    file.write_bytes(damage(file.read_bytes()))
    assert kept.of("17") == []


def test_the_longest_unused_go(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "KEPT", 2)
    kept = Listings(tmp_path / "listings")
    for guid, age in (("1", 300), ("2", 200)):
        kept.keep(guid, walk.entries(root))
        os.utime(tmp_path / "listings" / guid, (age, age))
    assert kept.of("1")
    kept.keep("3", walk.entries(root))
    assert sorted(path.name for path in (tmp_path / "listings").iterdir()) == ["1", "3"]


def test_where_nothing_can_be_kept_nothing_is(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Listings(tmp_path / "file/listings").keep("17", walk.entries(root))
    assert Listings(tmp_path / "file/listings").of("17") == []
