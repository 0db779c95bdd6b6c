"""Pools and datasets that cannot be used: no room, not there, not goldspawn's, or in use by another run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.command import SILENT
from pipeline.errors import CommandFailed
from pipeline.place import Place
from pipeline.tarball import unpack
from tests.conftest import SMALL, Sessions
from tests.test_faults_kill import came, running, runs


def zfs(*args: str) -> str:
    """Runs zfs(8) as an operator would."""
    return subprocess.run(["zfs", *args], check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def dataset(place: Place) -> Iterator[str]:
    """A dataset of the test's own, for `--dataset`."""
    name = f"{place.layout.base}/room-{uuid.uuid4().hex[:8]}"
    zfs("create", "-o", "mountpoint=legacy", name)
    yield name
    zfs("destroy", "-r", name)


@pytest.fixture
def small_pool(place: Place, tmp_path: Path) -> Iterator[str]:
    """A pool in a file that is too small for a root file system."""
    name = f"goldspawn-small-{uuid.uuid4().hex[:8]}"
    file = tmp_path / "pool.img"
    with file.open("wb") as image:
        image.truncate(80 << 20)
    zpool = ["zpool", "create", "-O", "mountpoint=none", "-o", "cachefile=none", name, str(file)]
    subprocess.run(zpool, check=True, capture_output=True, timeout=60)
    yield name
    subprocess.run(["zpool", "destroy", "-f", name], check=True, timeout=60)


def test_a_dataset_that_does_not_exist_is_named(place: Place, sessions: Sessions) -> None:
    sessions.image("small1")
    ended = sessions.run(f"--dataset={place.layout.base}/nowhere")
    assert ended.status == 1
    assert ended.outcomes("FAILED") == ["dataset"], ended.output
    assert f"dataset = {place.layout.base}/nowhere: there is no such dataset" in ended.output
    assert f"hint: zfs create {place.layout.base}/nowhere" in ended.output
    assert "Traceback" not in ended.output


def test_datasets_that_goldspawn_did_not_create_are_left_alone(dataset: str, sessions: Sessions) -> None:
    """One where an image's golden snapshot would be, with data in it; then one in place of all golden ones."""
    sessions.image("small1")
    assert sessions.run(f"--dataset={dataset}", "-k", "dataset").status == 0
    foreign = f"{dataset}/golden/small1"
    zfs("create", foreign)
    zfs("snapshot", f"{foreign}@precious")
    ended = sessions.run(f"--dataset={dataset}")
    assert ended.status == 1
    assert ended.outcomes("FAILED") == ["dataset"], ended.output
    assert f"dataset {foreign} exists, and goldspawn did not create it: it is left alone" in ended.output
    assert "hint: rename it, or name another dataset for goldspawn" in ended.output
    assert zfs("list", "-H", "-o", "name", f"{foreign}@precious").strip() == f"{foreign}@precious"

    zfs("inherit", "org.goldspawn:owner", f"{dataset}/work")
    ended = sessions.run(f"--dataset={dataset}", "-k", "dataset")
    assert ended.status == 1
    assert f"dataset {dataset}/work exists, and goldspawn did not create it: it is left alone" in ended.output


def test_a_pool_without_room_is_said_to_be_one(small_tar: Path, small_pool: str, sessions: Sessions) -> None:
    sessions.image("small1")
    ended = sessions.run(f"--dataset={small_pool}")
    assert ended.status == 1
    assert ended.outcomes("FAILED") == ["bootstrap"], ended.output
    assert f"no room in {small_pool}/bootstrap: at least " in ended.output
    assert "there is no room left in the pool or in the dataset's quota" in ended.output
    left = zfs("list", "-Hro", "name", f"{small_pool}/bootstrap").split()
    assert left == [f"{small_pool}/bootstrap"], "what was half-made is gone, and its room with it"


def test_a_quota_that_is_too_small_is_said_to_be_one(small_tar: Path, dataset: str, sessions: Sessions) -> None:
    sessions.image("small1")
    zfs("set", "quota=40M", dataset)
    ended = sessions.run(f"--dataset={dataset}")
    assert ended.status == 1
    assert ended.outcomes("FAILED") == ["bootstrap"], ended.output
    assert f"no room in {dataset}/bootstrap: at least " in ended.output
    assert "hint: there is no room left in the pool or in the dataset's quota" in ended.output


def test_a_tree_that_fills_up_while_it_is_unpacked_is_given_up_at_once(place: Place, tmp_path: Path) -> None:
    """On a tmpfs: a pool that is nearly full makes each write wait, and takes minutes to be quite full."""
    for number in range(200):
        (tmp_path / f"file{number}").write_bytes(b"x" * 100_000)
    tar, tree = tmp_path / "some.tar", tmp_path / "tree"
    subprocess.run(f"tar -C {tmp_path} -cf {tar} $(cd {tmp_path} && ls -d file*)", shell=True, check=True, timeout=60)
    tree.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", str(tree)], check=True)
    try:
        with pytest.raises(CommandFailed) as failed:
            unpack(tar, tree, log=SILENT, timeout=place.limit(60))
    finally:
        subprocess.run(["umount", str(tree)], check=True)
    assert "No space left on device" in str(failed.value)
    assert failed.value.hint == "there is no room left in the pool or in the dataset's quota"


def test_two_runs_of_one_image_go_one_after_the_other(bootstrapped: Place, sessions: Sessions) -> None:
    # A line of its own, so that no earlier run's candidate is at hand; the first holds the image until it is let go.
    sessions.image("coveted", SMALL + f'[profile]\nrun = [": {uuid.uuid4().hex}", "sleep 600.25 || true"]\n')
    until_profile = ["-k", "dataset or bootstrap or cycles or profile"]
    first = sessions.start(*until_profile)
    second = None
    try:
        assert came(lambda: runs("sleep", "600.25"), 120)
        second = sessions.start(*until_profile)
        waits = f"image coveted is held by process {first.pid}; waiting for it"
        log = sessions.artifacts / "logs" / f"coveted-{second.pid}.log"
        assert came(lambda: log.exists() and waits in log.read_text(), 120)
        for pid in running("sleep", "600.25"):
            os.kill(pid, signal.SIGTERM)
        said, _ = first.communicate(timeout=300)
        assert first.returncode == 0, said
        told, _ = second.communicate(timeout=300)
        assert second.returncode == 0, told
    finally:
        first.kill()
        if second is not None:
            second.kill()
    assert "sleep 600.25" in (sessions.artifacts / "logs" / "coveted.log").read_text(), "the first one's log is its own"
    assert re.search(r"starts after profile", told), "the second has nothing left to do"


def test_a_run_that_is_killed_while_another_waits_lets_it_go_on(bootstrapped: Place, sessions: Sessions) -> None:
    sessions.image("coveted2", SMALL + '[profile]\nrun = ["sleep 700.25"]\n')
    first = sessions.start("-k", "profile")
    second = None
    try:
        assert came(lambda: runs("sleep", "700.25"), 120)
        second = sessions.start("-k", "dataset")
        log = sessions.artifacts / "logs" / f"coveted2-{second.pid}.log"
        assert came(lambda: log.exists() and "is held by process" in log.read_text(), 120)
        first.kill()
        told, _ = second.communicate(timeout=120)
        assert second.returncode == 0, told
    finally:
        first.kill()
        first.communicate(timeout=60)
        if second is not None:
            second.kill()
