"""Which checks an image has, known also to a session that was told to collect but a part of them; and their order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Sessions

TESTS = "class TestIt:\n    def test_a(self, machine): pass\n\ndef test_b(machine): pass\n"
PROBE = """
import json, sys
from pipeline.plugin.verdict import Outcome, verdicts
from pipeline.reuse.verified import Check, Verdict

def pytest_collection_finish(session):
    told = verdicts(session.config)
    found = {one.name: one.result for one in told.outcomes("web1")}
    def other(names):
        return Verdict(1.0, tuple(Check(name.replace("images/", "elsewhere/"), "passed", 1) for name in names))
    covers = {"those": other(found), "fewer": other(list(found)[1:]), "more": other([*found, "images/web1/t.py::t"])}
    covers["none"] = Verdict(1.0, ())
    said = {"found": found, "covers": [name for name, one in covers.items() if told.covers("web1", one)]}
    session.config.rootpath.joinpath("said.json").write_text(json.dumps(said))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image with tests of its own, in two files, in a repository of a user's."""
    folder = tmp_path / "images/web1"
    (folder / "more").mkdir(parents=True)
    (folder / "root/etc").mkdir(parents=True)
    (folder / "image.toml").write_text('[bootstrap]\nsuite = "trixie"\n')
    (folder / "test_web1.py").write_text(TESTS)
    (folder / "more/test_more.py").write_text("def test_c(machine): pass\n")
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return folder


def collect(folder: Path, *args: str) -> tuple[dict[str, str], list[str]]:
    """What a session knows of the image that it collects, by node id, and which verdicts cover it."""
    root = folder.parents[1]
    plugins = ["-p", "pipeline.plugin", "-p", "stages", "-p", "probe"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "--collect-only", "-q", *args], cwd=root, capture_output=True,
        text=True, timeout=120, env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{root}"},
    )  # fmt: skip
    assert (root / "said.json").is_file(), done.stdout + done.stderr
    said = json.loads((root / "said.json").read_text())
    return said["found"], said["covers"]


def uncollected(found: dict[str, str]) -> list[str]:
    return [name.partition("web1/")[2] for name, result in found.items() if result == "uncollected"]


@pytest.mark.parametrize(
    "args",
    [
        ["images"],
        ["--image=web1"],
        ["images/web1", "-k", "snapshot"],
        ["images/web1/image.toml", "images/web1/test_web1.py", "images/web1/more"],
        ["--deselect=images/web1/test_web1.py"],
    ],
    ids=" ".join,
)
def test_a_session_that_collects_all_knows_all(folder: Path, args: list[str]) -> None:
    found, covers = collect(folder, *args)
    assert uncollected(found) == []
    assert len(found) == 12 + 3
    assert covers == ["those"], "a verdict of an image that had fewer checks, or more, is not one of this image"


@pytest.mark.parametrize(
    ("args", "lacks"),
    [
        (["images/web1/image.toml"], ["more/test_more.py", "test_web1.py"]),
        (["images/web1/image.toml", "images/web1/test_web1.py::test_b", "images/web1/more"], ["test_web1.py::TestIt"]),
        (["images/web1/image.toml", "images/web1/test_web1.py::TestIt", "images/web1/more"], ["test_web1.py::test_b"]),
        (["--ignore=images/web1/more"], ["more/test_more.py"]),
        (["--ignore-glob=*/test_web1.py", "images"], ["test_web1.py"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith(("-", "images")) else "",
)
def test_what_a_session_was_not_told_to_collect_is_known(folder: Path, args: list[str], lacks: list[str]) -> None:
    found, covers = collect(folder, *args)
    assert uncollected(found) == lacks
    assert "fewer" not in covers and "none" not in covers


def test_one_check_alone_leaves_out_all_others(folder: Path) -> None:
    found, covers = collect(folder, "images/web1/image.toml::snapshot")
    assert len(found) == 12 + 2 and set(found.values()) == {"uncollected"}
    assert "none" not in covers


def test_what_failed_last_alone_is_not_all(folder: Path) -> None:
    """`--lf` answers for files in which nothing failed, and takes out of the others what passed."""
    cache = folder.parents[1] / ".pytest_cache/v/cache"
    cache.mkdir(parents=True)
    (cache / "lastfailed").write_text('{"images/web1/image.toml::snapshot": true}')
    found, _ = collect(folder, "--lf", "images")
    assert set(found.values()) == {"uncollected"}
    assert {"image.toml::boot", "test_web1.py", "more/test_more.py"} <= set(uncollected(found))


def test_a_file_that_cannot_be_imported_is_not_all(folder: Path) -> None:
    (folder / "test_web1.py").write_text("import nowhere\n")
    found, _ = collect(folder, "images", "--continue-on-collection-errors")
    assert uncollected(found) == ["test_web1.py"]


def test_bases_come_before_what_stands_on_them_and_all_else_in_its_order(sessions: Sessions) -> None:
    for name, base in (("b-top", "m-mid"), ("m-mid", "z-base"), ("n-too", "z-base")):
        sessions.image(name, f'from = "{base}"\n', tests="def test_it(machine): pass\n")
    for name in ("a-first", "c-other", "z-base"):
        sessions.image(name)
    told = sessions.run("--collect-only", "-qq").output
    found = [line.partition("/")[0] for line in told.splitlines() if "::" in line]
    assert list(dict.fromkeys(found)) == ["a-first", "z-base", "m-mid", "b-top", "c-other", "n-too"]
    assert len(found) == 6 * 13 + 3
    assert found == sorted(found, key=list(dict.fromkeys(found)).index), "an image's checks are not together"
    alone = sessions.run("--collect-only", "-qq", "--image=b-top", "--image=z-base").output
    assert re.findall(r"^(.*)/image.toml::dataset", alone, re.M) == ["z-base", "b-top"]
