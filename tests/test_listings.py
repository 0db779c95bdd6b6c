"""Digests of files that are kept: what is damaged is not believed, and not too many are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.artifact import tree
from pipeline.lineage import listings
from pipeline.lineage.listings import Listings


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "one").write_text("one")
    (folder / "again").hardlink_to(folder / "one")
    (folder / "link").symlink_to("one")
    return folder


def test_what_was_kept_is_known(root: Path, tmp_path: Path) -> None:
    kept = Listings(tmp_path / "listings")
    assert kept.of("17") == {}
    kept.keep("17", tree.entries(root))
    status = (root / "one").stat()
    assert list(kept.of("17")) == [(status.st_ino, status.st_ctime_ns)]
    assert list(tree.entries(root, known=kept.of("17"))) == list(tree.entries(root))


def test_a_file_that_was_touched_is_read(root: Path, tmp_path: Path) -> None:
    kept = Listings(tmp_path / "listings")
    kept.keep("17", tree.entries(root))
    before, status = tree.digest(root), (root / "one").stat()
    (root / "one").write_text("two")
    os.utime(root / "one", ns=(status.st_atime_ns, status.st_mtime_ns))
    after = tree.digest_of(tree.entries(root, known=kept.of("17")))
    assert after == tree.digest(root) != before


@pytest.mark.parametrize("damage", [lambda text: text[:-5], lambda text: text.replace("1", "2"), lambda text: ""])
def test_what_is_damaged_is_not_believed(damage: object, root: Path, tmp_path: Path) -> None:
    kept = Listings(tmp_path / "listings")
    kept.keep("17", tree.entries(root))
    file = tmp_path / "listings/17"
    file.write_text(damage(file.read_text()))  # type: ignore[operator]
    assert kept.of("17") == {}


def test_the_longest_unused_go(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "KEPT", 2)
    kept = Listings(tmp_path / "listings")
    for guid, age in (("1", 300), ("2", 200)):
        kept.keep(guid, tree.entries(root))
        os.utime(tmp_path / "listings" / guid, (age, age))
    assert kept.of("1")
    kept.keep("3", tree.entries(root))
    assert sorted(path.name for path in (tmp_path / "listings").iterdir()) == ["1", "3"]


def test_where_nothing_can_be_kept_nothing_is(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Listings(tmp_path / "file/listings").keep("17", tree.entries(root))
    assert Listings(tmp_path / "file/listings").of("17") == {}
