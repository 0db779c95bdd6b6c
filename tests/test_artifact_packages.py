"""What is installed in a tree is read from its own database, without running anything in it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.artifact.packages import Package, installed
from pipeline.errors import InputError

STATUS = """\
Package: libc6
Status: install ok installed
Priority: optional
Architecture: amd64
Multi-Arch: same
Version: 2.41-12
Description: GNU C Library
 Package: not-a-field

Package: nginx
Status: deinstall ok config-files
Architecture: amd64
Version: 1.26.3-3

Package: held
Status: hold ok installed
Version: 1:2.0~rc1-1
Architecture: all

Package: broken
Status: install reinstreq half-installed
Architecture: all
Version: 1
"""


def tree(root: Path, status: str) -> Path:
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(status)
    return root


def test_what_dpkg_has_installed(tmp_path: Path) -> None:
    assert installed(tree(tmp_path, STATUS)) == [
        Package("held", "1:2.0~rc1-1", "all"),
        Package("libc6", "2.41-12", "amd64"),
    ]


def test_this_machine_agrees_with_dpkg_query() -> None:
    if shutil.which("dpkg-query") is None:
        pytest.skip("not a Debian")
    form = "${db:Status-Status} ${Package} ${Version} ${Architecture}\n"
    listed = subprocess.run(["dpkg-query", "-W", "-f", form], check=True, capture_output=True, text=True).stdout
    ours = [" ".join(("installed", *package)) for package in installed(Path("/"))]
    assert ours == sorted(ours)
    assert set(ours) == {line for line in listed.splitlines() if line.startswith("installed ")}


def test_a_tree_without_a_database_has_none(tmp_path: Path) -> None:
    assert installed(tmp_path) == []


def test_a_broken_database_is_one_clear_line(tmp_path: Path) -> None:
    status = STATUS.replace("Version: 2.41-12\n", "")
    with pytest.raises(InputError, match=r"dpkg/status cannot be read as a package database: 'Version'$"):
        installed(tree(tmp_path, status))


def test_a_link_out_of_the_tree_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "var/lib").mkdir(parents=True)
    tree(tmp_path / "elsewhere", STATUS)
    (tmp_path / "root/var").mkdir(parents=True)
    (tmp_path / "root/var/lib").symlink_to(tmp_path / "elsewhere/var/lib")
    with pytest.raises(InputError, match="leads out of the tree"):
        installed(tmp_path / "root")


def test_what_portage_has_installed(tmp_path: Path) -> None:
    for name, chost in (("sys-libs/zlib-1.3.1-r1", "x86_64-pc-linux-gnu"), ("app-misc/a-b2-c-20240101_p3", "")):
        folder = tmp_path / "var/db/pkg" / name
        folder.mkdir(parents=True)
        (folder / "PF").write_text(name.split("/")[1] + "\n")
        if chost:
            (folder / "CHOST").write_text(chost + "\n")
    (tmp_path / "var/db/pkg/sys-libs/-MERGING-half-1").mkdir()
    assert installed(tmp_path) == [
        Package("app-misc/a-b2-c", "20240101_p3", "all"),
        Package("sys-libs/zlib", "1.3.1-r1", "x86_64"),
    ]


def test_half_a_merge_is_no_package_of_portage(tmp_path: Path) -> None:
    folder = tmp_path / "var/db/pkg/sys-libs/-MERGING-half-1"
    folder.mkdir(parents=True)
    (folder / "PF").write_text("half-1\n")
    assert installed(tmp_path) == []
