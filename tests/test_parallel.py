"""Images side by side: what two workers share is made once, and a worker that dies costs its image only."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import uuid
from pathlib import Path

from pipeline.place import Place
from tests.conftest import SMALL, Session, Sessions, forget
from tests.test_faults_kill import came, running, runs

TARBALL = '[bootstrap]\nmethod = "tarball"\ntarball = "../root.tar"\n'

MORTAL = """
import os, signal

def test_lives(): pass

def test_dies(): os.kill(os.getpid(), signal.SIGKILL)

def test_comes_after(): pass
"""


def checks(session: Session, image: str, word: str) -> list[str]:
    """The checks of an image beside which pytest-xdist printed this word, in order."""
    found = re.findall(rf"{word} {image}/\S*::(\S+)|{image}/\S*::(\S+) {word}\b", session.output)
    return list(dict.fromkeys(one or other for one, other in found))


def test_two_workers_that_need_one_bootstrap_make_it_once(place: Place, sessions: Sessions) -> None:
    """And both begin in a dataset where nothing is yet, at the same moment."""
    tree = sessions.artifacts.parent / "tree"
    for number in range(2000):
        file = tree / f"usr/share/{number % 50}/{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(number) * 500)
    subprocess.run(["tar", "--create", f"--file={sessions.images}/root.tar", f"--directory={tree}", "."], check=True)
    for name in ("one", "other"):
        sessions.image(name, TARBALL)
    dataset = f"{place.layout.base}/fresh"
    subprocess.run(["zfs", "create", "-o", "mountpoint=none", dataset], check=True)
    try:
        ended = sessions.run("-n2", f"--dataset={dataset}", "-k", "bootstrap")
        made = subprocess.run(
            ["zfs", "list", "-H", "-o", "name", "-d1", "-r", f"{dataset}/bootstrap"], capture_output=True, text=True
        ).stdout.split()[1:]
    finally:
        subprocess.run(["zfs", "destroy", "-r", dataset], check=True)
    assert ended.status == 0, ended.output
    assert len(made) == 1, made
    logs = [(sessions.artifacts / f"logs/{name}.log").read_text() for name in ("one", "other")]
    assert sorted("tar --extract" in log for log in logs) == [False, True]
    assert len(re.findall(r"^  bootstrap +[\d.]+ s +reused \(", ended.output, re.M)) == 1


def test_two_workers_that_need_one_base_build_it_once(bootstrapped: Place, sessions: Sessions) -> None:
    """It is not selected itself: each worker would make it for the image that it is at."""
    place = bootstrapped
    forget(place, "left", "right", "below")
    # A line of its own, so that no earlier run's candidate is at hand. Who makes it goes on when the other waits.
    sessions.image("below", SMALL + f'[profile]\nrun = [": {uuid.uuid4().hex}", "sleep 800.25 || true"]\n')
    for name in ("left", "right"):
        sessions.image(name, 'from = "below"\n')
    both = sessions.start("-n2", "--image=left", "--image=right", "-k", "dataset or bootstrap or cycles or profile")
    try:
        assert came(lambda: runs("sleep", "800.25"), 120)
        logs = sessions.artifacts / "logs"
        waits = "image below is held by"
        assert came(lambda: any(waits in log.read_text() for log in logs.glob("*.log")), 120)
        for pid in running("sleep", "800.25"):
            os.kill(pid, signal.SIGTERM)
        told, _ = both.communicate(timeout=300)
    finally:
        both.kill()
    assert both.returncode == 0, told
    said = re.findall(r"^  bootstrap +[\d.]+ s +from below, (\w+)", told, re.M)
    assert sorted(said) == ["made", "reused"], told
    candidate = f"{place.layout.work}/below@candidate"
    names = ["zfs", "list", "-H", "-o", "name,origin", "-r", place.layout.base]
    listed = subprocess.run(names, capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in listed if "retired-below" in name] == [], "nothing of it was replaced"
    assert listed.count(candidate) == 2, "both stand on it"
    forget(place, "left", "right", "below")


def test_a_worker_that_dies_fails_its_image_and_no_other(place: Place, sessions: Sessions) -> None:
    sessions.image("mortal", TARBALL, tests=MORTAL)
    for name in ("second", "third", "fourth"):
        sessions.image(name, TARBALL, tests="def test_one(): pass\n\ndef test_two(): pass\n")
    (sessions.images / "root.tar").touch()
    chosen = ("-n2", "-k", "test_lives or test_dies or test_comes_after or test_one or test_two")
    ended = sessions.run(*chosen, env={"GOLDSPAWN_NO_REPORT": "no"})
    assert ended.status == 1
    assert checks(ended, "mortal", "PASSED") == ["test_lives"], ended.output
    assert checks(ended, "mortal", "FAILED") == ["test_dies"]
    assert checks(ended, "mortal", "BLOCKED") == ["test_comes_after"]
    assert re.search(r"worker gw\d is lost: it died while it was at mortal/test_mortal.py::test_dies", ended.output)
    for name in ("second", "third", "fourth"):
        assert checks(ended, name, "PASSED") == ["test_one", "test_two"]
    page = (sessions.artifacts / "reports/index.html").read_text()
    assert "<title>4 images: 1 failed, 3 unfinished</title>" in page
    assert "test_dies: worker gw" in page and page.count("ended after test_two") == 3


def test_nothing_is_built_on_a_base_whose_worker_died(place: Place, sessions: Sessions) -> None:
    sessions.image("below", TARBALL, tests=MORTAL)
    sessions.image("above", 'from = "below"\n')
    argv = ["tar", "--create", f"--file={sessions.images}/root.tar", f"--directory={sessions.images}", "below"]
    subprocess.run(argv, check=True)
    ended = sessions.run("-n2", "-k", "test_dies or bootstrap")
    assert ended.status == 1
    assert "below, on which it stands, is not verified: its checks did not end" in ended.output, ended.output
    assert checks(ended, "above", "FAILED") == ["bootstrap"]


def test_the_image_that_takes_longest_begins_first(place: Place, sessions: Sessions) -> None:
    """How long each takes is known from the run before."""
    for name in ("a", "b", "c"):
        sessions.image(name, TARBALL, tests=f"import time\n\ndef test_it(): time.sleep({2 if name == 'c' else 0.1})\n")
    (sessions.images / "root.tar").touch()
    sessions.run("-k", "test_it")
    ended = sessions.run("-n1", "-k", "test_it")
    assert re.findall(r"PASSED (\w)/test_", ended.output)[0] == "c", ended.output
    assert ended.status == 0
    assert Path(sessions.artifacts / "timeline.svg").exists()


def test_a_base_comes_before_what_stands_on_it(place: Place, sessions: Sessions) -> None:
    """Also where that takes longer: a worker that waited for the base would do nothing else."""
    images = {"a": ('from = "b"', 0.1), "b": ('from = "z"', 1.0), "c": (TARBALL, 2.0), "z": (TARBALL, 0.1)}
    for name, (definition, seconds) in images.items():
        sessions.image(name, definition, tests=f"import time\n\ndef test_it(): time.sleep({seconds})\n")
    (sessions.images / "root.tar").touch()
    sessions.run("-k", "test_it")
    ended = sessions.run("-n1", "-k", "test_it")
    assert re.findall(r"PASSED (\w)/test_", ended.output) == ["z", "b", "c", "a"], ended.output


APART = """
from pathlib import Path

def test_one(): Path({begun!r}).touch()

def test_two(): pass
"""
BASE = """
import time
from pathlib import Path

def test_one():
    deadline = time.monotonic() + 120
    while not Path({begun!r}).exists():
        assert time.monotonic() < deadline, "what stands on nothing waits as well"
        time.sleep(0.1)
    Path({done!r}).touch()

def test_two(): pass
"""
ON_IT = """
from pathlib import Path

def test_one(): assert Path({done!r}).exists(), "the base holds its datasets by now"
"""


def test_what_stands_on_a_base_comes_when_that_holds_its_datasets_and_others_do_not_wait(
    place: Place, sessions: Sessions
) -> None:
    """However many workers there are."""
    (sessions.images / "root.tar").touch()
    marks = {name: str(sessions.images.parent / name) for name in ("begun", "done")}
    for name, (definition, tests) in {
        "a": ('from = "z"', ON_IT), "b": ('from = "z"', ON_IT), "c": (TARBALL, APART), "z": (TARBALL, BASE),
    }.items():  # fmt: skip
        sessions.image(name, definition, tests=tests.format(**marks))
    ended = sessions.run("-n3", "-k", "test_one or test_two")
    assert ended.status == 0, ended.output
    begun = [re.search(rf"(gw\d)\] .*PASSED {name}/test_{name}.py::test_one", ended.output) for name in "ab"]
    assert len({one[1] for one in begun if one is not None}) == 2, "two workers share what is left"
