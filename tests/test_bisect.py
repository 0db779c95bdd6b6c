"""Which stage is named where a machine does not boot: the one after the last that does."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from pipeline import bisect as module
from pipeline.bisect import bisect

CHAIN = {  # snapshot: the stage that it ends, and the origin of its dataset
    "p/work/web1@candidate": ("candidate", "p/bootstrap/c@tree"),
    "p/bootstrap/c@tree": ("packages", "p/bootstrap/b@tree"),
    "p/bootstrap/b@tree": ("cycles", "p/bootstrap/a@tree"),
    "p/bootstrap/a@tree": ("bootstrap", "-"),
}


def told(monkeypatch: pytest.MonkeyPatch, red: str, *, whole: bool = True) -> tuple[str, list[str]]:
    """What is said where snapshots of these letters do not boot, and which were booted."""
    booted: list[str] = []

    def problems(build: object, snapshot: str, segment: object, check: object) -> Iterator[str]:
        booted.append(snapshot)
        yield from ["degraded"] * (snapshot.split("@")[0][-1] in red)

    monkeypatch.setattr(module, "_problems", problems)
    by_dataset = {snapshot.split("@")[0]: origin for snapshot, (_, origin) in CHAIN.items()}
    zfs = SimpleNamespace(
        marks=lambda snapshot: {"stage": CHAIN[snapshot][0]}, get=lambda dataset, key: by_dataset[dataset]
    )
    image = SimpleNamespace(name="web1", bootstrap=SimpleNamespace(whole=whole))
    build = SimpleNamespace(zfs=zfs, image=image, place=SimpleNamespace(appliance=False), show=lambda line: None)
    workspace = SimpleNamespace(candidate="p/work/web1@candidate")
    said = bisect(build, workspace, None)  # type: ignore[arg-type]
    return said, [snapshot.split("@")[0][-1] for snapshot in booted]


@pytest.mark.parametrize(
    ("red", "whole", "stage", "opened", "booted"),
    [
        ("", True, "profile", "p/work/web1@candidate", "c"),
        ("c", True, "packages", "p/bootstrap/c@tree", "cb"),
        ("cb", True, "cycles", "p/bootstrap/b@tree", "cba"),
        ("cba", True, "bootstrap", "p/bootstrap/a@tree", "cba"),
        ("cba", False, "cycles", "p/bootstrap/b@tree", "cb"),
    ],
)
def test_the_stage_after_the_last_good_one_is_named(
    red: str, whole: bool, stage: str, opened: str, booted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bootstrap of Gentoo from nothing has no system: that it does not boot is nobody's fault."""
    said, were = told(monkeypatch, red, whole=whole)
    assert f"the first red one is {stage}. Reopen it:" in said
    assert said.endswith(f"-m pipeline.cache open {opened}")
    assert were == list(booted)
