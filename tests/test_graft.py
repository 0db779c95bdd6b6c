"""A graft makes a tree equal to another, whatever the two are, and touches only what differs."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifact import tree, walk
from pipeline.errors import PlaceError
from pipeline.lineage.graft import BLOCK, Step, act, graft, plan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and capabilities need root")

NAMES = ("a", "b", "c", "d e", "ü")
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
ACL = bytes.fromhex("0200000001000600ffffffff020004000700000004000400ffffffff10000400ffffffff20000000ffffffff")
"""An ACL as acl(5) and linux/posix_acl_xattr.h have it: user 7 may read."""


def grow(root: Path, dice: random.Random) -> None:
    """A random tree: names from a small stock, so that two of them have many in common."""
    root.mkdir()
    folders: list[Path] = [root]
    files: list[Path] = []
    for _ in range(dice.randint(0, 40)):
        path = dice.choice(folders) / dice.choice(NAMES)
        if os.path.lexists(path):
            continue
        kind = dice.choice(("folder", "file", "file", "file", "link", "hard", "device", "fifo", "socket"))
        if kind == "folder":
            path.mkdir()
            folders.append(path)
        elif kind == "hard" and files:
            os.link(dice.choice(files), path, follow_symlinks=False)
        elif kind == "link":
            path.symlink_to(dice.choice(("x", "y", "a")))
            files.append(path)
        elif kind in ("device", "fifo", "socket"):
            mode = {"device": stat.S_IFCHR, "fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}[kind]
            os.mknod(path, mode | 0o600, os.makedev(1, dice.choice((3, 5))) if kind == "device" else 0)
            files.append(path)
        else:
            path.write_bytes(contents(dice))
            files.append(path)
        dress(path, dice)


def contents(dice: random.Random) -> bytes:
    """Of few different kinds, some with blocks in common, some with holes."""
    parts = [bytes([letter]) * BLOCK for letter in b"\0xy"]
    blocks = b"".join(dice.choice(parts) for _ in range(dice.choice((0, 0, 1, 3))))
    return blocks + dice.choice((b"", b"tail", bytes(100)))


def dress(path: Path, dice: random.Random) -> None:
    if dice.random() < 0.4:
        os.chown(path, dice.choice((0, 7)), dice.choice((0, 8)), follow_symlinks=False)
    if dice.random() < 0.4 and not path.is_symlink():
        path.chmod(dice.choice((0o755, 0o4755, 0o600, 0o1777)))
    regular = stat.S_ISREG(path.lstat().st_mode)
    if regular and dice.random() < 0.3:
        os.setxattr(path, "security.capability", CAPABILITY)
    if dice.random() < 0.2:
        os.setxattr(path, "trusted.note", dice.choice((b"1", b"2")), follow_symlinks=False)
    if dice.random() < 0.2 and (regular or path.is_dir()) and not path.is_symlink():
        os.setxattr(path, "system.posix_acl_access", ACL)
        if path.is_dir():
            os.setxattr(path, "system.posix_acl_default", ACL)
    if dice.random() < 0.5:
        os.utime(path, ns=(0, dice.choice((10**18, 10**18 + 1))), follow_symlinks=False)


def times(root: Path) -> dict[bytes, int]:
    return {entry.path: entry.modified for entry in walk.entries(root) if entry.type in "fl"}


@pytest.mark.parametrize("seed", range(150))
def test_after_a_graft_the_trees_are_equal_and_a_second_one_does_nothing(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    clean, onto = tmp_path / "clean", tmp_path / "onto"
    grow(clean, dice)
    grow(onto, dice)
    before = tree.digest(clean)
    graft(clean, onto)
    assert tree.differences(clean, onto) == []
    assert tree.digest(onto) == before == tree.digest(clean)
    assert times(onto) == times(clean)
    assert graft(clean, onto) == []


@pytest.mark.parametrize("seed", range(50))
def test_a_graft_onto_a_copy_with_few_changes_takes_steps_for_these_only(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    clean, onto = tmp_path / "clean", tmp_path / "onto"
    grow(clean, dice)
    subprocess.run(["cp", "-a", clean, onto], check=True)
    assert graft(clean, onto) == []
    for entry in list(walk.entries(clean)):
        if entry.type == "f" and not entry.link and dice.random() < 0.3:
            (clean / os.fsdecode(entry.path)).write_bytes(contents(dice) + b"new")
    changed = {line.split(":")[0] for line in tree.differences(clean, onto)}
    assert len(graft(clean, onto)) <= len(changed)
    assert tree.differences(clean, onto) == []


def pair(folder: Path, make: Callable[[Path], object]) -> tuple[Path, Path]:
    """Two equal trees."""
    made = folder / "clean", folder / "onto"
    for root in made:
        root.mkdir()
        make(root)
        for path in root.rglob("*"):
            os.utime(path, (1, 1), follow_symlinks=False)
    return made


def test_of_a_changed_file_only_the_blocks_that_differ_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.urandom(10 * BLOCK)
    clean, onto = pair(tmp_path, lambda root: (root / "big").write_bytes(whole))
    inode = (onto / "big").stat().st_ino
    with (clean / "big").open("r+b") as file:
        file.seek(3 * BLOCK + 5)
        file.write(b"changed")
        file.truncate(9 * BLOCK + 1)
    written: list[tuple[int, int]] = []
    pwrite = os.pwrite

    def watch(descriptor: int, data: bytes, offset: int) -> int:
        written.append((offset, len(data)))
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", watch)
    graft(clean, onto)
    assert written == [(3 * BLOCK, BLOCK)]
    assert (onto / "big").stat().st_ino == inode
    assert tree.differences(clean, onto) == []


def test_a_file_that_grows_keeps_its_holes(tmp_path: Path) -> None:
    clean, onto = pair(tmp_path, lambda root: (root / "log").write_bytes(b"begins"))
    with (clean / "log").open("r+b") as file:
        file.truncate(64 << 20)
        file.seek((64 << 20) - 1)
        file.write(b"x")
    graft(clean, onto)
    assert tree.differences(clean, onto) == []
    assert (onto / "log").stat().st_blocks * 512 < 1 << 20


def test_of_a_hard_linked_file_the_one_with_the_same_contents_is_kept(tmp_path: Path) -> None:
    def make(root: Path) -> None:
        (root / "a").write_text("old")
        (root / "b").hardlink_to(root / "a")

    clean, onto = pair(tmp_path, make)
    (clean / "a").unlink()
    (clean / "a").write_text("new")
    kept = (onto / "b").stat().st_ino
    graft(clean, onto)
    assert (onto / "b").stat().st_ino == kept
    assert tree.differences(clean, onto) == []


def test_a_file_whose_time_alone_changed_gets_the_time_and_is_not_written(tmp_path: Path) -> None:
    clean, onto = pair(tmp_path, lambda root: (root / "module.py").write_text("x = 1"))
    os.utime(clean / "module.py", (2, 2))
    steps = graft(clean, onto)
    assert [str(step) for step in steps] == ["dress f module.py"]
    assert (onto / "module.py").stat().st_mtime == 2


def test_a_default_acl_of_the_directory_does_not_stick_to_what_is_made_in_it(tmp_path: Path) -> None:
    def make(root: Path) -> None:
        (root / "journal").mkdir()
        os.setxattr(root / "journal", "system.posix_acl_default", ACL)

    clean, onto = pair(tmp_path, make)
    (clean / "plain").write_text("text")
    (clean / "plain").rename(clean / "journal/plain")
    graft(clean, onto)
    assert os.listxattr(onto / "journal/plain") == []
    assert tree.differences(clean, onto) == []


def test_a_plan_reads_as_what_is_done(tmp_path: Path) -> None:
    def make(root: Path) -> None:
        (root / "etc").mkdir()
        (root / "etc/old name").write_text("x")
        (root / "etc/motd").write_text("hello")

    clean, onto = pair(tmp_path, make)
    shutil.rmtree(clean / "etc")
    (clean / "etc").mkdir()
    (clean / "etc/motd").write_text("goodbye")
    (clean / "etc/motd.link").hardlink_to(clean / "etc/motd")
    steps: list[Step] = plan(list(walk.entries(onto)), list(walk.entries(clean)))
    assert [str(step) for step in steps] == [
        "remove f etc/old%20name",
        "link f etc/motd.link = etc/motd",
        "patch f etc/motd",
        "dress d etc",
    ]


def test_what_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    clean, onto = pair(tmp_path, lambda root: (root / "file").write_text("x"))
    (clean / "file").write_text("y")
    steps = plan(list(walk.entries(onto)), list(walk.entries(clean)))
    (clean / "file").unlink()
    with pytest.raises(PlaceError, match=r"^graft: patch f file: No such file or directory$"):
        act(steps, clean, onto)
