"""Where a build starts: what of the cache holds as the world and the user's wishes are, and what is said of it."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.image import load
from pipeline.reuse.inputs import keys
from pipeline.reuse.marks import packed, unpacked
from pipeline.reuse.plan import Policy, ago, changes, newest, reads_mark
from pipeline.reuse.verified import Check, Verdict, as_mark, from_mark
from pipeline.reuse.world import Source
from pipeline.workspace import Workspace
from pipeline.zfs import Entry
from tests.left import MIRROR, NOW, folder, left_by, start

__all__ = ["folder"]


def test_an_update_in_the_world_makes_all_anew_that_came_from_it(folder: Path) -> None:
    known = keys(load(folder))
    after = start(left_by(known), known, moved=lambda sources: [one.uri for one in sources])
    assert after.stage == ""
    assert after.why["candidate"] == "updates in debian/dists/trixie"


def test_the_world_is_asked_once_where_nothing_moved(folder: Path) -> None:
    asked: list[Sequence[Source]] = []

    def look(sources: Sequence[Source]) -> list[str]:
        asked.append(sources)
        return []

    known = keys(load(folder))
    assert start(left_by(known), known, moved=look).looked
    assert asked == [(MIRROR,)]


def test_only_a_look_at_what_it_starts_from_counts_as_one(folder: Path) -> None:
    """The candidate's world has moved; the layer below is of another one, and young enough."""
    known = keys(load(folder))
    entries = [
        replace(entry, properties={**entry.properties, "current": str(NOW - 9000)})
        if entry.properties["stage"] == "candidate"
        else entry
        for entry in left_by(known)
    ]
    found = start(entries, known, Policy(max_age=3600.0), lambda sources: ["somewhere"])
    assert (found.stage, found.looked) == ("packages", False)


def test_each_stage_is_told_with_its_own_age(folder: Path) -> None:
    known = keys(load(folder))
    now = time.time()
    times = json.dumps({"bootstrap": now - 200_000, "packages": now - 7200})
    entries = [
        replace(entry, properties={**entry.properties, "times": times, "made": str(now - 5)})
        if entry.properties["stage"] == "candidate"
        else entry
        for entry in left_by(known)
    ]
    began = start(entries, known)
    workspace = Workspace(load(folder), None, known, None, began, 0, contextlib.ExitStack())  # type: ignore[arg-type]
    assert [workspace.reused(stage) for stage in ("bootstrap", "packages", "candidate")] == [
        "reused (from 2 days ago)", "reused (from 2 hours ago)", "reused (from just now)",
    ]  # fmt: skip


def refuse(sources: Sequence[Source]) -> list[str]:
    raise AssertionError("the world was looked at")


def test_frozen_and_young_enough_look_at_nothing(folder: Path) -> None:
    known = keys(load(folder))
    entries = left_by(known)
    assert start(entries, known, Policy(frozen=True), refuse).stage == "candidate"
    assert start(entries, known, Policy(max_age=101.0), refuse).stage == "candidate"
    assert start(entries, known, Policy(max_age=99.0), lambda _: []).looked


def test_what_does_not_tell_its_world_is_not_reused(folder: Path) -> None:
    known = keys(load(folder))
    entries = [
        replace(entry, properties={k: v for k, v in entry.properties.items() if k != "world"})
        for entry in left_by(known)
    ]
    assert start(entries, known).stage == ""


@pytest.mark.parametrize(
    ("stage", "holds"),
    [("bootstrap", ""), ("cycles", "bootstrap"), ("packages", "bootstrap"), ("candidate", "packages")],
)
def test_rebuild_makes_anew_from_a_stage_on(stage: str, holds: str, folder: Path) -> None:
    known = keys(load(folder))
    after = start(left_by(known), known, Policy(rebuild=stage))
    assert after.stage == holds
    assert after.why["candidate"] == "as asked"


def test_rebuild_makes_anew_once_in_a_session(folder: Path) -> None:
    """What several images share, a base above all, is not made again for each of them."""
    known = keys(load(folder))
    asked = Policy(rebuild="bootstrap", since=NOW - 50)
    assert start(left_by(known, made=NOW - 51), known, asked).stage == ""
    assert start(left_by(known, made=NOW - 49), known, asked).stage == "candidate"


def test_a_snapshot_that_was_not_finished_counts_for_nothing(folder: Path) -> None:
    known = keys(load(folder))
    half = [replace(entry, kind="filesystem", name=entry.name.split("@")[0]) for entry in left_by(known)]
    assert start(half, known).stage == ""


def test_the_youngest_is_taken_and_one_of_before_is_not() -> None:
    entries = [
        Entry(f"p/bootstrap/k-{made}@tree", "snapshot", {"stage": "bootstrap", "inputs": "k", "made": str(made)})
        for made in (5, 20, 10)
    ]
    found = newest(entries, "bootstrap", "k")
    assert found is not None and found.name.endswith("-20@tree")
    assert newest(entries, "bootstrap", "k", since=21) is None
    assert newest(entries, "bootstrap", "other") is None


def test_an_image_is_compared_with_its_own_last_build_only(folder: Path) -> None:
    known = keys(load(folder))
    others = [
        replace(entry, properties={**entry.properties, "stage": "retired", "inputs": "other"})
        for entry in left_by(known)
        if "reads" in entry.properties
    ]
    (folder / "root/etc/motd").write_text("x")
    assert set(start(others, keys(load(folder))).why.values()) == {"not built before"}


def test_changes_are_told_in_few_words() -> None:
    assert changes(None, {}) == "new"
    assert changes({"a.b": "1"}, {"a.b": "1"}) == "what it stands on changed"
    many = changes({}, {f"root/{number}": "x" for number in range(9)})
    assert many == "+ root/0; + root/1; + root/2 and 6 more"


def test_reads_of_an_image_with_very_many_files_still_fit(folder: Path) -> None:
    for number in range(3000):
        (folder / f"root/srv/{number}").write_text(str(number))
    mark = reads_mark(keys(load(folder)))
    assert 0 < len(mark) <= 8000
    assert "profile.timezone" in unpacked(mark)["candidate"]


def test_a_mark_is_packed_and_nonsense_is_none() -> None:
    assert unpacked(packed({"a": [1, "ü"]})) == {"a": [1, "ü"]}
    assert unpacked("nonsense") is None and unpacked(None) is None
    assert packed([random.random() for _ in range(5000)]) is None


def test_a_verdict_of_no_checks_is_none() -> None:
    passed = Verdict(5.0, (Check("image.toml::boot", "passed", 1.0),))
    assert from_mark(as_mark("k", passed), "k") == passed
    assert from_mark(as_mark("k", passed), "other") is None
    assert from_mark(as_mark("k", Verdict(5.0, ())), "k") is None


def test_ages_are_told_as_people_do() -> None:
    assert [ago(seconds) for seconds in (5, 60, 7200, 200_000)] == [
        "just now", "1 minute ago", "2 hours ago", "2 days ago",
    ]  # fmt: skip
