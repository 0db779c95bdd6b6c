"""Layers that were not finished: those of dead runs are cleared, and what another run is just finishing is not."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.image import load
from pipeline.locks import layer_lock
from pipeline.place import Place
from pipeline.reuse.inputs import keys
from pipeline.reuse.plan import Policy
from pipeline.workspace import open_workspace
from pipeline.zfs import Entry, Zfs


class Meanwhile(Zfs):
    """Between the moment when all layers are listed and the next one something happens."""

    def __init__(self, layers: str, event: Callable[[], object]) -> None:
        super().__init__()
        self._layers, self._event = layers, event

    def entries(self, name: str, *, depth: int | None = None) -> list[Entry]:
        listed = super().entries(name, depth=depth)
        if name == self._layers:
            self._event()
        return listed


def opened(place: Place, folder: Path, zfs: Zfs) -> None:
    """Opens the workspace of an image that has nothing to do with the layer."""
    folder = folder / "sweeper1"
    folder.mkdir()
    (folder / "image.toml").write_text('[bootstrap]\nsuite = "trixie"\n')
    image = load(folder)
    open_workspace(image, place, keys(image), zfs, policy=Policy(), wait=print).close()


@pytest.fixture
def layer(place: Place) -> str:
    """One that somebody began, and that is mounted."""
    name = f"{place.layout.bootstraps}/{uuid.uuid4().hex[:16]}-1"
    Zfs().create(name, properties={"mountpoint": "legacy"}, marks={"owner": "goldspawn"})
    return name


def test_one_that_a_dead_run_left_is_cleared_with_its_mount(place: Place, layer: str, tmp_path: Path) -> None:
    where = tmp_path / "mounted"
    where.mkdir()
    subprocess.run(["mount", "-t", "zfs", layer, where], check=True)
    opened(place, tmp_path, Zfs())
    assert not where.is_mount()
    assert not Zfs().exists(layer)


def test_one_that_another_run_is_at_is_left_alone(place: Place, layer: str, tmp_path: Path) -> None:
    with FileLock(layer_lock(layer, place)):
        opened(place, tmp_path, Zfs())
        assert Zfs().exists(layer)
    Zfs().destroy(layer)


def test_one_that_another_run_finishes_just_then_is_left_alone(place: Place, layer: str, tmp_path: Path) -> None:
    """It was not finished when it was listed, and nobody holds its lock any more when that is asked."""
    finished: list[str] = []

    def finish() -> None:
        if not finished:
            Zfs().snapshot(f"{layer}@tree", marks={"stage": "bootstrap"})
            finished.append(layer)

    opened(place, tmp_path, Meanwhile(place.layout.bootstraps, finish))
    assert finished
    assert Zfs().exists(f"{layer}@tree")
    Zfs().destroy(layer)
