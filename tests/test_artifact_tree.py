"""The digest of a file tree sees all that a machine would notice, and nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifact import tree, walk
from pipeline.errors import PlaceError

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and capabilities need root")


def sh(*argv: str | Path) -> None:
    """Runs a tool of the packages libcap2-bin, acl and attr; skips where it is not installed."""
    if shutil.which(str(argv[0])) is None:
        pytest.skip(f"{argv[0]} is not installed (apt install libcap2-bin acl attr)")
    subprocess.run(argv, check=True)


def make(root: Path, *, backwards: bool = False) -> Path:
    """A small tree with an entry of each kind; `backwards` makes the entries in another order."""
    root.mkdir()
    root.chmod(0o755)
    parts: list[Callable[[], None]] = [
        lambda: (root / "etc").mkdir(mode=0o755),
        lambda: _file(root / "etc/passwd", b"root:x:0:0\n", 0o644),
        lambda: _file(root / "etc/shadow", b"root:*\n", 0o600),
        lambda: _file(root / "etc/empty", b"", 0o644),
        lambda: (root / "etc/link").symlink_to("passwd"),
        lambda: _file(root / "ping", b"\x7fELF", 0o755),
        lambda: os.mkfifo(root / "fifo", 0o600),
        lambda: _file(root / "a name", b"1", 0o644),
        lambda: _file(root / "etc.d", b"sorted between etc and etc/ by plain bytes", 0o644),
    ]
    if backwards:
        parts = [parts[0], *reversed(parts[1:])]
    for part in parts:
        part()
    (root / "second").unlink(missing_ok=True)
    (root / "second").hardlink_to(root / "ping")
    return root


def _file(path: Path, contents: bytes, mode: int) -> None:
    path.write_bytes(contents)
    path.chmod(mode)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make(tmp_path / "a"), make(tmp_path / "b", backwards=True)


def test_equal_trees_made_in_another_order_have_one_digest(pair: tuple[Path, Path]) -> None:
    a, b = pair
    os.utime(b / "ping", (1, 1))
    assert tree.digest(a) == tree.digest(b)
    assert tree.differences(a, b) == []


def _device(root: Path, minor: int) -> None:
    (root / "null").unlink(missing_ok=True)
    os.mknod(root / "null", 0o020666, os.makedev(1, minor))


def _replace_by(root: Path, name: str, make_it: Callable[[Path], object]) -> None:
    (root / name).unlink()
    make_it(root / name)


def _copy_of_second(root: Path) -> None:
    (root / "second").unlink()
    _file(root / "second", b"\x7fELF", 0o755)


def _mounted_name(root: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(root)  # the name of a socket may be 107 bytes long
    try:
        server.bind("socket")
    finally:
        os.chdir(here)
        server.close()


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "contents": (
        lambda root: _file(root / "etc/passwd", b"toor:x:0:0\n", 0o644),
        "etc/passwd: contents differ (11 bytes)",
    ),
    "size": (lambda root: _file(root / "etc/passwd", b"root", 0o644), "etc/passwd: 11 bytes here, 4 there"),
    "mode": (lambda root: (root / "etc/passwd").chmod(0o600), "etc/passwd: mode 0644 here, 0600 there"),
    "setuid": (lambda root: (root / "etc/passwd").chmod(0o4644), "etc/passwd: mode 0644 here, 4644 there"),
    "mode of the root": (lambda root: root.chmod(0o700), ".: mode 0755 here, 0700 there"),
    "owner": (lambda root: os.chown(root / "etc/passwd", 7, -1), "etc/passwd: owner 0:0 here, 7:0 there"),
    "group": (lambda root: os.chown(root / "etc/passwd", -1, 8), "etc/passwd: owner 0:0 here, 0:8 there"),
    "owner of a link": (lambda root: os.lchown(root / "etc/link", 7, 7), "etc/link: owner 0:0 here, 7:7 there"),
    "new file": (lambda root: _file(root / "new", b"", 0o644), "new: a file, only there"),
    "new socket": (_mounted_name, "socket: a socket, only there"),
    "no file": (lambda root: (root / "etc/empty").unlink(), "etc/empty: a file, only here"),
    "no directory": (lambda root: shutil.rmtree(root / "etc"), "etc: a directory, only here"),
    "name": (lambda root: (root / "a name").rename(root / "b name"), "a%20name: a file, only here"),
    "target": (
        lambda root: _replace_by(root, "etc/link", lambda path: path.symlink_to("shadow")),
        "etc/link: target passwd here, shadow there",
    ),
    "type": (
        lambda root: _replace_by(root, "etc/link", lambda path: path.mkdir()),
        "etc/link: a symbolic link here, a directory there",
    ),
    "hard link": (_copy_of_second, "second: the same file as ping here, none before it there"),
    "device": (lambda root: _device(root, 5), "null: device 1:3 here, 1:5 there"),
    "xattr": (
        lambda root: os.setxattr(root / "etc/passwd", "user.note", b"x"),
        "etc/passwd: attribute user.note none here, 78 there",
    ),
    "xattr of a directory": (
        lambda root: os.setxattr(root / "etc", "user.note", b""),
        "etc: attribute user.note none here,  there",
    ),
    "xattr of a link": (
        lambda root: os.setxattr(root / "etc/link", "trusted.note", b"x", follow_symlinks=False),
        "etc/link: attribute trusted.note none here, 78 there",
    ),
    "capability": (
        lambda root: sh("setcap", "cap_net_raw+ep", root / "ping"),
        "ping: attribute security.capability none here, 0100000200200000000000000000000000000000 there",
    ),
    "ACL": (
        lambda root: sh("setfacl", "-m", "u:7:r", root / "etc/shadow"),
        "etc/shadow: attribute system.posix_acl_access none here, ",
    ),
    "default ACL": (
        lambda root: sh("setfacl", "-d", "-m", "g:4:rx", root / "etc"),
        "etc: attribute system.posix_acl_default none here, ",
    ),
}


@ROOT
@pytest.mark.parametrize("change", CHANGES)
def test_each_change_shows(change: str, pair: tuple[Path, Path]) -> None:
    a, b = pair
    alter, line = CHANGES[change]
    for root in pair:
        _device(root, 3)
    before = tree.digest(a)
    assert before == tree.digest(b)
    alter(b)
    assert tree.digest(b).sha256 != before.sha256
    found = tree.differences(a, b)
    assert any(one.startswith(line) for one in found), found


def test_the_text_that_is_hashed_is_the_documented_one(tmp_path: Path) -> None:
    root = tmp_path / "t"
    root.mkdir()
    root.chmod(0o755)
    _file(root / "b%=\xff c", b"abc", 0o640)
    (root / "l").symlink_to("b c")
    (root / "m").hardlink_to(root / "b%=\xff c")
    os.setxattr(root / "m", "user.k", b"\x01")
    owner = f"{os.geteuid()} {os.getegid()}"
    text = (
        "goldspawn-tree 1\n"
        f"d 0755 {owner} .\n"
        f"f 0640 {owner} b%25%3D%C3%BF%20c size=3 "
        "sha256=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad xattr:user.k=01\n"
        f"l 0777 {owner} l target=b%20c\n"
        f"f 0640 {owner} m link=b%25%3D%C3%BF%20c\n"
    )
    assert tree.FORMAT + b"".join(entry.line() for entry in walk.entries(root)) == text.encode()
    assert (tree.digest(root).entries, tree.digest(root).bytes) == (4, 3)


def test_a_file_larger_than_a_block_is_read_whole(tmp_path: Path) -> None:
    contents = os.urandom((3 << 20) + 17)
    (tmp_path / "big").write_bytes(contents)
    entry = list(walk.entries(tmp_path))[1]
    assert (entry.size, entry.sha256) == (len(contents), hashlib.sha256(contents).hexdigest())


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/usr")
    assert [entry.path for entry in walk.entries(tmp_path)] == [b".", b"out"]


@ROOT
def test_what_is_mounted_below_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "proc"], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        (tmp_path / "proc/x").write_text("")
        assert [entry.path for entry in walk.entries(tmp_path)] == [b".", b"proc"]
    finally:
        subprocess.run(["umount", tmp_path / "proc"], check=True)


def test_access_times_stay(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    os.utime(tmp_path / "file", (1, 2))
    tree.digest(tmp_path)
    assert (tmp_path / "file").stat().st_atime == 1


def test_a_tree_deeper_than_recursion_goes(tmp_path: Path) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1200):
            Path("d").mkdir()
            os.chdir("d")
        os.chdir(here)
        assert tree.digest(tmp_path).entries == 1201
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # shutil.rmtree, and so pytest, cannot


@pytest.mark.parametrize("make_it", [lambda path: None, lambda path: path.write_text("")])
def test_no_directory_is_one_clear_line(make_it: Callable[[Path], object], tmp_path: Path) -> None:
    make_it(tmp_path / "x")
    with pytest.raises(PlaceError, match=r"^the tree at .*/x cannot be read: .*: [A-Z][a-z ]+$"):
        tree.digest(tmp_path / "x")
