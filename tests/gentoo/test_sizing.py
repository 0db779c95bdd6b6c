"""How much emerge builds at once: never more compilers than memory has room for, whoever says how many."""

from __future__ import annotations

import itertools
import os
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.channel import AT_ONCE
from pipeline.gentoo.sizing import MEMORY_A_COMPILER, Machine, Size, machine
from pipeline.plugin.outside import Outside

GB = 1 << 30


@pytest.mark.parametrize(
    ("cores", "memory", "images", "expected"),
    [
        (1, 1, 1, Size(1, 1, 1)),
        (2, 8, 1, Size(2, 2, 2)),
        (4, 4, 1, Size(1, 2, 4)),
        (16, 32, 1, Size(4, 4, 16)),
        (16, 32, 4, Size(2, 2, 16)),
        (16, 256, 1, Size(11, 11, 16)),
        (16, 2048, 1, Size(16, 16, 16)),
        (8, 16, 20, Size(1, 1, 8)),
    ],
)
def test_it_fits_the_machine(cores: int, memory: int, images: int, expected: Size) -> None:
    assert Machine(cores, memory * GB, images).size() == expected


@pytest.mark.parametrize(
    ("jobs", "makeopts", "expected"),
    [
        (16, "", (16, 1)),
        (2, "", (2, 8)),
        (None, "-j8 -l16", (2, 8)),
        (None, "--jobs=4", (4, 4)),
        (None, "-l16 -j 2", (8, 2)),
        (None, "-j64", (1, 64)),
        (None, "-l16", (4, 4)),
        (3, "-j5", (3, 5)),
    ],
)
def test_what_the_image_says_stays_and_the_rest_fits_in(
    jobs: int | None, makeopts: str, expected: tuple[int, int]
) -> None:
    size = Machine(16, 32 * GB).size(jobs, makeopts)
    assert (size.jobs, size.compilers) == expected


def test_memory_always_has_room_for_all_compilers_of_all_images() -> None:
    for cores, memory, images in itertools.product((1, 2, 5, 64), (2, 7, 100), (1, 3, 8)):
        size = Machine(cores, memory * GB, images).size()
        most = max(images, memory * GB / MEMORY_A_COMPILER + images / 2)  # one each there has to be; halves are rounded
        assert images * size.jobs * size.compilers <= most
        assert size.makeopts == f"-j{size.compilers} -l{cores}"


def test_how_many_images_are_built_at_once_is_what_the_session_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    monkeypatch.delenv(AT_ONCE, raising=False)
    assert machine().images == 1
    monkeypatch.setenv(AT_ONCE, "3")
    assert machine().images == 3
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "4")
    assert machine().images == 4


def test_the_process_outside_of_the_appliance_knows_how_many_workers_ask_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    config: Any = SimpleNamespace(option=SimpleNamespace(), getoption=lambda name, default: 3)
    Outside(config)
    assert machine().images == 3
