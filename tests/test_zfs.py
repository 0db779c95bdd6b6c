"""Datasets: what we read of them is what zfs(8) says, and others make and destroy them while we look."""

from __future__ import annotations

import subprocess
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.place import Place
from pipeline.zfs import Zfs, ZfsError


@pytest.fixture
def below(place: Place) -> Iterator[str]:
    """A dataset of the test's own."""
    name = f"{place.layout.base}/restless-{uuid.uuid4().hex[:8]}"
    Zfs().create(name)
    yield name
    subprocess.run(["zfs", "destroy", "-r", name], check=True, timeout=120)


@pytest.fixture
def restless(below: str) -> Iterator[str]:
    """A dataset that another thread makes, with a snapshot, and destroys again, over and over."""
    ended = threading.Event()

    def come_and_go() -> None:
        zfs = Zfs()
        while not ended.is_set():
            zfs.create(f"{below}/guest")
            zfs.snapshot(f"{below}/guest@one")
            zfs.destroy(f"{below}/guest")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    yield f"{below}/guest"
    ended.set()
    thread.join()


def test_a_dataset_that_goes_while_it_is_listed_is_there_or_not(below: str, restless: str) -> None:
    zfs = Zfs()
    for _ in range(25):
        assert {entry.name for entry in zfs.entries(restless, depth=1)} <= {restless, f"{restless}@one"}
        assert {entry.name for entry in zfs.entries(below)} <= {below, restless, f"{restless}@one"}
        assert {row.name for row in zfs.usage(below)} <= {below, restless, f"{restless}@one"}


def listed(*words: str) -> list[str]:
    return subprocess.run(["zfs", *words], check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()


def test_what_is_read_is_what_zfs_says(below: str) -> None:
    zfs = Zfs()
    for name in ("b", "a", "b/c"):
        zfs.create(f"{below}/{name}", marks={"stage": name})
    for name in ("a@2", "a@1", "b@late"):  # neither in the order of their names nor in that of a hash
        zfs.snapshot(f"{below}/{name}", marks={"made": f"of {name}"})
    for number in range(2):
        zfs.clone(f"{below}/a@1", f"{below}/clone{number}")
    zfs.mark(f"{below}/a", {"stage": "another"})
    subprocess.run(f"zfs send -p {below}/a@2 | zfs recv {below}/received", shell=True, check=True, timeout=60)
    with zfs.held(f"{below}/a@2", "a-test"):
        read, used = zfs.entries(below), zfs.usage(below)
        columns = "name,type,used,creation,origin,clones,userrefs"
        wanted = listed("list", "-Hp", "-r", "-t", "filesystem,snapshot", "-o", columns, below)
    assert [(one.name, one.kind) for one in read] == [tuple(line.split("\t")[:2]) for line in wanted]
    for one, line in zip(used, wanted, strict=True):
        name, _, size, created, origin, clones, holds = line.split("\t")
        assert [one.name, one.used, one.created, one.origin or "-"] == [name, int(size), float(created), origin]
        assert sorted(one.clones) == sorted(filter(None, clones.strip("-").split(",")))
        assert one.holds is (holds not in ("0", "-"))
    marks = {one.name.removeprefix(f"{below}/"): dict(one.properties) for one in read}
    assert marks["a"] == {"stage": "another"}
    assert marks["a@1"] == {"made": "of a@1"}, "those of the dataset itself are not the snapshot's"
    assert marks["clone0"] == {} and marks["received"] == {}, "neither inherited nor received"
    assert {one.name: zfs.marks(one.name) for one in read} == {one.name: one.properties for one in read}
    assert [one.name for one in zfs.entries(f"{below}/a", depth=0)] == [f"{below}/a"]
    assert [one.name for one in zfs.entries(f"{below}/a", depth=1)] == [f"{below}/a", f"{below}/a@2", f"{below}/a@1"]
    assert zfs.entries(f"{below}/none") == [] == zfs.points(f"{below}/none")


PROPERTIES = ("clones", "compression", "encryption", "guid", "keystatus", "logicalreferenced", "mounted",
              "origin", "userrefs")  # fmt: skip


def test_one_property_is_read_as_zfs_says_it(below: str, tmp_path: Path) -> None:
    zfs = Zfs()
    (tmp_path / "key").write_text("not a secret")
    locked = ["-o", "encryption=on", "-o", "keyformat=passphrase", "-o", f"keylocation=file://{tmp_path}/key"]
    listed("create", *locked, "-o", "mountpoint=none", f"{below}/locked")
    zfs.create(f"{below}/locked/child", properties={"compression": "zstd-4"})
    for name in (below, f"{below}/locked/child"):
        for number in range(3):
            zfs.snapshot(f"{name}@{number}")
            for clone in range(number):
                zfs.clone(f"{name}@{number}", f"{name}/clone{number}{clone}")
    names = [one.name for one in zfs.entries(below)]
    assert len(names) == 15
    (free,) = listed("get", "-Hp", "-o", "value", "available", below)
    assert abs(int(zfs.get(below, "available")) - int(free)) < 100e6  # others write at the same time
    for key in PROPERTIES:
        wanted = dict(line.split("\t") for line in listed("get", "-Hp", "-o", "name,value", key, *names))
        assert {name: sorted(zfs.get(name, key).split(",")) for name in names} == {
            name: sorted(value.split(",")) for name, value in wanted.items()
        }, key


def test_what_is_not_there_is_named(below: str) -> None:
    with pytest.raises(ZfsError, match=f"{below}/none: .*no such dataset '{below}/none'"):
        Zfs().get(f"{below}/none", "guid")
    assert Zfs().marks(f"{below}/none") == {}


def test_points_are_snapshots_and_bookmarks_in_the_order_of_their_making(below: str) -> None:
    zfs = Zfs()
    for name in ("c", "a", "b"):
        zfs.snapshot(f"{below}@{name}")
        listed("bookmark", f"{below}@{name}", f"{below}#{name}-kept")
    zfs.create(f"{below}/child")
    zfs.snapshot(f"{below}/child@other")
    zfs.destroy(f"{below}@a")
    wanted = listed("list", "-Hp", "-d1", "-t", "snapshot,bookmark", "-s", "createtxg", "-o", "name,guid", below)
    found = zfs.points(below)
    assert sorted(found) == sorted(tuple(line.split("\t")) for line in wanted)
    assert [name[-1] if "@" in name else name[-6] for name, _ in found] == ["c", "c", "a", "b", "b"]


def test_what_another_session_destroys_first_is_destroyed(below: str) -> None:
    zfs = Zfs()
    name = f"{below}/shared"
    with ThreadPoolExecutor(2) as both:
        for _ in range(10):
            zfs.create(name)
            zfs.snapshot(f"{name}@one")
            list(both.map(zfs.destroy, [name, name]))
            assert not zfs.exists(name)
