"""Datasets that other sessions make and destroy while we look at them."""

from __future__ import annotations

import subprocess
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.place import Place
from pipeline.zfs import Zfs


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


def test_what_another_session_destroys_first_is_destroyed(below: str) -> None:
    zfs = Zfs()
    name = f"{below}/shared"
    with ThreadPoolExecutor(2) as both:
        for _ in range(10):
            zfs.create(name)
            zfs.snapshot(f"{name}@one")
            list(both.map(zfs.destroy, [name, name]))
            assert not zfs.exists(name)
