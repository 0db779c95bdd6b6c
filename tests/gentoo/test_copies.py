"""A throw-away copy of a tree, in which a risky break is tried, where there are no datasets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.appliance import namespace

HOME = Path(__file__).parents[2]

SCRIPT = """
import os, shutil, sys
from pathlib import Path
from pipeline.gentoo import folders

if sys.argv[2] == "refused":
    folders._OWN_ATTRIBUTES = ",nonsense"
tree = Path(sys.argv[1])
try:
    with folders.copied(tree) as copy:
        assert os.readlink(copy / "link") == "etc" and (copy / "etc/file").stat().st_mode & 0o777 == 0o640
        (copy / "etc/file").write_text("changed")
        shutil.rmtree(copy / "usr")
        (copy / "usr").mkdir()
        assert (copy.is_mount(), list((copy / "usr").iterdir())) == (sys.argv[2] == "overlay", [])
        raise KeyError
except KeyError:
    pass
"""


@pytest.mark.parametrize("how", ["overlay", "refused"])
def test_what_is_done_in_a_copy_leaves_the_tree_as_it_was(how: str, tmp_path: Path) -> None:
    tree = tmp_path / "work, and:more/tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/file").write_text("as it was")
    (tree / "etc/file").chmod(0o640)
    (tree / "link").symlink_to("etc")
    (tree / "usr/bin").mkdir(parents=True)
    argv = [sys.executable, "-c", SCRIPT, str(tree), how]
    done = subprocess.run(namespace.inside(argv, processes=True), cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tree / "etc/file").read_text() == "as it was"
    assert (tree / "usr/bin").is_dir()
    assert list(tree.parent.iterdir()) == [tree]
