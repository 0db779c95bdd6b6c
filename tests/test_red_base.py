"""What stands on an image hears whether its checks failed in this session, or did not end, also where a worker died."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.bases import judging, red_base
from pipeline.image import Image, load
from pipeline.place import Place

BEGAN = time.time() - 100


@pytest.fixture
def place(tmp_path: Path) -> Place:
    lock = lambda name: tmp_path / f"{name.replace('/', '+')}.lock"  # noqa: E731
    return SimpleNamespace(layout=SimpleNamespace(work="p/work"), lock=lock)  # type: ignore[return-value]


@pytest.fixture
def images(tmp_path: Path) -> list[Image]:
    """A base, what stands on it, and what stands on that."""
    for name, text in (
        ("low", '[bootstrap]\nsuite = "trixie"\n'),
        ("mid", 'from = "low"\n'),
        ("top", 'from = "mid"\n'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "image.toml").write_text(text)
    return [load(tmp_path / name) for name in ("low", "mid", "top")]


def said(images: list[Image], place: Place, since: float = BEGAN) -> list[str]:
    return [red_base(image, place, since=since) for image in images]


def test_a_base_that_failed_is_red_to_all_that_stands_on_it_in_this_session(images: list[Image], place: Place) -> None:
    with judging(images[0], place, lambda: ["boot", "snapshot"]):
        pass
    told = "low, on which it stands, is not verified: boot failed"
    assert said(images, place) == ["", told, told], "its own failure is told by its own checks"
    assert said(images, place, time.time() + 1) == ["", "", ""], "in a later session it is no word any more"


def test_a_base_that_passes_now_is_red_no_more(images: list[Image], place: Place) -> None:
    for failed in (["boot"], []):
        with judging(images[0], place, lambda failed=failed: failed):  # type: ignore[misc]
            pass
    assert said(images, place) == ["", "", ""]


def test_a_base_is_not_red_before_its_checks_have_ended(images: list[Image], place: Place) -> None:
    with judging(images[0], place, lambda: ["boot"]):
        assert said(images, place) == ["", "", ""]


def test_all_that_stands_on_a_red_base_hears_of_it_when_many_ask_at_once(images: list[Image], place: Place) -> None:
    with judging(images[0], place, lambda: ["boot"]):
        pass
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: red_base(images[2], place, since=BEGAN), range(400)))
    assert set(told) == {"low, on which it stands, is not verified: boot failed"}


def test_a_base_whose_worker_was_killed_is_red(images: list[Image], place: Place) -> None:
    child = os.fork()
    if child == 0:
        with judging(images[1], place, list):
            os._exit(0)
    os.waitpid(child, 0)
    assert said(images, place) == ["", "", "mid, on which it stands, is not verified: its checks did not end"]
