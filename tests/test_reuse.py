"""Reuse: any change of any input makes exactly the stages anew that read it, and those that stand on them."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.bases import red_base
from pipeline.image import load
from pipeline.reuse import inputs
from pipeline.reuse.inputs import CODE, Keys, keys
from pipeline.reuse.marks import packed, unpacked
from pipeline.reuse.plan import Policy, Start, ago, changes, newest, plan, reads_mark
from pipeline.reuse.verified import Check, Verdict, as_mark, from_mark
from pipeline.reuse.world import Source, as_text
from pipeline.workspace import Workspace
from pipeline.zfs import Entry

NOW = 1_800_000_000.0
MIRROR = Source("index", "http://m/debian/dists/trixie/InRelease", "a" * 64, 5)

TEXT = """
description = "all that a stage reads"
[bootstrap]
suite = "trixie"
packages = ["ca-certificates"]
components = ["main"]
[[bootstrap.repositories]]
uri = "https://example.org/debian"
suite = "trixie"
key = "keys/one.asc"
[profile]
packages = ["nginx", "curl"]
enable = ["nginx.service"]
timezone = "Europe/Berlin"
run = ["true"]
[[profile.users]]
name = "ops"
[boot]
memory_max = "512M"
[artifact]
compression = "zstd"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image that uses everything."""
    made = tmp_path / "all1"
    (made / "keys").mkdir(parents=True)
    (made / "keys/one.asc").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    for name in ("etc/motd", "srv/www/index.html", "usr/local/bin/tool"):
        (made / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (made / "root" / name).write_text(name)
    (made / "root/usr/local/bin/link").symlink_to("tool")
    (made / "image.toml").write_text(TEXT)
    (made / "test_all1.py").write_text("def test_nothing(machine): pass\n")
    return made


def left_by(known: Keys, *, made: float = NOW - 100, world: Sequence[Source] = (MIRROR,)) -> list[Entry]:
    """The snapshots that a whole build with these inputs leaves."""
    common = {"made": str(made), "current": str(made), "world": as_text(world)}
    found = [
        Entry(f"p/bootstrap/{one.key[:16]}-1@tree", "snapshot", {**common, "stage": one.stage, "inputs": one.key[:16]})
        for one in known.inputs[:-1]
    ]
    told = {**common, "stage": "candidate", "inputs": known.candidate, "reads": reads_mark(known)}
    return [*found, Entry("p/golden/all1@1", "snapshot", told)]


def quiet(sources: Sequence[Source]) -> list[str]:
    return []


def start(entries: Sequence[Entry], known: Keys, policy: Policy | None = None, moved: object = quiet) -> Start:
    assert callable(moved)
    return plan(entries, known, policy or Policy(), now=NOW, moved=moved)


@dataclass(frozen=True)
class Change:
    """A mutation of an input, the last stage that still holds after it, and what the report says."""

    make: Callable[[Path], object]
    holds: str
    told: str = ""


def edit(old: str, new: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        file = folder / "image.toml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return make


CHANGES = {
    "suite": Change(edit('suite = "trixie"\npackages', 'suite = "sid"\npackages'), "", "suite: sid instead of trixie"),
    "packages of the base": Change(edit('["ca-certificates"]', "[]"), "", "packages: - ca-certificates"),
    "components": Change(edit('["main"]', '["main", "contrib"]'), "", "components: + contrib"),
    "a repository": Change(edit("example.org", "example.com"), "", "repositories:"),
    "a key's bytes": Change(lambda at: (at / "keys/one.asc").write_text("other"), "", "file keys/one.asc changed"),
    "compression": Change(edit('"zstd"', '"lz4"'), "", "compression: lz4 instead of zstd"),
    "method": Change(edit('suite = "trixie"\npackages', 'method = "debootstrap"\nsuite = "trixie"\npackages'), ""),
    "a package more": Change(edit('"curl"]', '"curl", "vim"]'), "bootstrap", "packages: + vim"),
    "a package less": Change(edit(', "curl"', ""), "bootstrap", "packages: - curl"),
    "no package": Change(edit('packages = ["nginx", "curl"]\n', ""), "bootstrap"),
    "a unit": Change(edit("enable", "disable"), "packages", "enable: - nginx.service"),
    "time zone": Change(edit("Europe/Berlin", "Etc/UTC"), "packages", "timezone: Etc/UTC instead of Europe/Berlin"),
    "a command": Change(edit('["true"]', '["false"]'), "packages", "run: + false, - true"),
    "a user": Change(edit('"ops"', '"dev"'), "packages", "users:"),
    "a group": Change(edit("[boot]", '[[profile.groups]]\nname = "ops"\n[boot]'), "packages", "groups: + "),
    "a masked unit": Change(edit("timezone", 'mask = ["x.service"]\ntimezone'), "packages", "mask: + x.service"),
    "host name": Change(edit("timezone", 'hostname = "h"\ntimezone'), "packages", "hostname: h instead of null"),
    "locale": Change(edit("timezone", 'locale = "de_DE.UTF-8"\ntimezone'), "packages", "locale: de_DE.UTF-8 instead"),
    "a secret for commands": Change(
        edit("[boot]", '[secrets.token]\nuse = ["run"]\nfile = "token"\n[boot]'), "packages", "secrets"
    ),
    "a secret for the machine": Change(
        edit("[boot]", '[secrets.token]\nuse = ["credential"]\nfile = "token"\n[boot]'), "candidate"
    ),
    "a file's bytes": Change(lambda at: (at / "root/etc/motd").write_text("x"), "packages", "root/etc/motd changed"),
    "a file's mode": Change(lambda at: (at / "root/etc/motd").chmod(0o600), "packages", "root/etc/motd changed"),
    "a file more": Change(lambda at: (at / "root/etc/new").write_text(""), "packages", "+ root/etc/new"),
    "a file less": Change(lambda at: (at / "root/etc/motd").unlink(), "packages", "- root/etc/motd"),
    "a folder more": Change(lambda at: (at / "root/srv/more").mkdir(), "packages", "+ root/srv/more"),
    "a link": Change(
        lambda at: (at / "root/usr/local/bin/other").symlink_to("tool"), "packages", "+ root/usr/local/bin"
    ),
    "no files": Change(lambda at: shutil.rmtree(at / "root"), "packages", "- root/etc"),
    "a limit": Change(edit("512M", "1G"), "candidate"),
    "description": Change(edit("all that", "what"), "candidate"),
    "a test": Change(lambda at: (at / "test_all1.py").write_text("def test_it(): pass\n"), "candidate"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_makes_anew_what_reads_it_and_no_more(change: Change, folder: Path) -> None:
    entries = left_by(keys(load(folder)))
    assert start(entries, keys(load(folder))).stage == "candidate"
    change.make(folder)
    after = start(entries, keys(load(folder)))
    assert after.stage == change.holds
    lowest = {"": "bootstrap", "bootstrap": "packages", "packages": "candidate"}.get(change.holds)
    if change.told and lowest:
        assert change.told in after.why[lowest]
        assert all(stage == lowest or "stands on" in why for stage, why in after.why.items()), after.why


def test_a_tarball_is_known_by_its_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "tar1"
    folder.mkdir()
    (folder / "image.toml").write_text('[bootstrap]\nmethod = "tarball"\ntarball = "root.tar"\n')
    (folder / "root.tar").write_text("one")
    entries = left_by(keys(load(folder)))
    (folder / "root.tar").unlink()
    assert start(entries, keys(load(folder))).stage == "", "that it is not there is told by the stage that unpacks it"
    (folder / "root.tar").write_text("two")
    after = start(entries, keys(load(folder)))
    assert (after.stage, after.why["bootstrap"]) == ("", "file root.tar changed")


BASE_CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a package of the base": (edit('"nginx", "curl"', '"nginx"'), ""),
    "a file of the base": (lambda at: (at / "root/etc/motd").write_text("x"), ""),
    "the base's suite": (edit('"trixie"\npackages', '"sid"\npackages'), ""),
    "a test of the base": (lambda at: (at / "test_all1.py").write_text("def test_it(): pass\n"), "candidate"),
    "how the base is run": (edit("512M", "1G"), "candidate"),
}


@pytest.mark.parametrize(("make", "holds"), BASE_CHANGES.values(), ids=BASE_CHANGES)
def test_a_change_in_a_base_makes_anew_what_stands_on_it(
    make: Callable[[Path], object], holds: str, folder: Path
) -> None:
    """Also what stands on what stands on it."""
    for name, base in (("on1", "all1"), ("on2", "on1")):
        (folder.with_name(name)).mkdir()
        (folder.with_name(name) / "image.toml").write_text(f'from = "{base}"\n[profile]\npackages = ["tree"]\n')
    top = folder.with_name("on2")
    entries = left_by(keys(load(top)))
    assert start(entries, keys(load(top))).stage == "candidate"
    make(folder)
    assert start(entries, keys(load(top))).stage == holds
    assert start(left_by(keys(load(folder))), keys(load(top))).stage == "", "another image's are nothing to it"


@pytest.mark.parametrize(
    ("red", "stage", "told"),
    [
        ("100 boot", "candidate", ""),
        ("200 boot", "candidate", "all1, on which it stands, is not verified: boot failed"),
        ("201 test_it[a b]", "candidate", "all1, on which it stands, is not verified: test_it[a b] failed"),
        ("201 boot", "retired", ""),
    ],
)
def test_a_base_counts_as_red_that_failed_in_this_run(red: str, stage: str, told: str, folder: Path) -> None:
    """Also the base of a base, and one that was golden before."""
    for name, base in (("on1", "all1"), ("on2", "on1")):
        (folder.with_name(name)).mkdir()
        (folder.with_name(name) / "image.toml").write_text(f'from = "{base}"\n')
    listed = {"p/golden/all1": [Entry("p/golden/all1@1", "snapshot", {"stage": stage, "red": red})]}
    place = SimpleNamespace(layout=SimpleNamespace(work="p/work", golden="p/golden"))
    zfs = SimpleNamespace(entries=lambda name, depth: listed.get(name, []))
    since = 200.9  # of which the mark has whole seconds only
    for name in ("on1", "on2"):
        assert red_base(load(folder.with_name(name)), place, zfs, since=since) == told  # type: ignore[arg-type]
    assert red_base(load(folder), place, zfs, since=since) == "", "its own failure is told by its own checks"  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(60))
def test_changes_on_changes_never_hit_what_is_stale_and_going_back_hits_again(seed: int, folder: Path) -> None:
    """A walk through states of an image: a build's snapshots are hit if and only if its inputs are those of now."""
    pick = random.Random(seed)
    left: list[Entry] = []
    seen: dict[tuple[str, ...], int] = {}
    texts = [(folder / "image.toml").read_text()]
    for step in range(8):
        kind = pick.choice(("file", "packages", "suite", "back"))
        text = (folder / "image.toml").read_text()
        if kind == "file":
            (folder / "root/etc/motd").write_text(str(pick.randrange(3)))
        elif kind == "packages":
            texts.append(text.replace('["nginx", "curl"]', '["nginx"]'))
        elif kind == "suite":
            texts.append(text.replace('"trixie"\npackages', '"sid"\npackages'))
        (folder / "image.toml").write_text(pick.choice(texts))
        known = keys(load(folder))
        state = tuple(repr(sorted(one.reads.items())) for one in known.inputs)
        expected = next(
            (known.inputs[depth - 1].stage for depth in range(len(state), 0, -1) if state[:depth] in seen), ""
        )
        found = start(left, known)
        assert found.stage == expected
        if expected:
            depth = [one.stage for one in known.inputs].index(expected) + 1
            assert f"+{seen[state[:depth]]}" in found.snapshot, "not the newest that would do"
        for entry in left_by(known, made=NOW - 100 + step):
            left.append(replace(entry, name=f"{entry.name}+{step}"))
        for depth in range(1, len(state) + 1):
            seen[state[:depth]] = step


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


@pytest.mark.parametrize("machine", ["aarch64", "riscv64"])
def test_another_architecture_hits_nothing(machine: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = left_by(keys(load(folder)))
    monkeypatch.setattr(inputs.platform, "machine", lambda: machine)
    assert start(entries, keys(load(folder))).stage == ""


@pytest.mark.parametrize(
    ("part", "holds"),
    [("bootstrap", ""), ("profile/apt.py", "bootstrap"), ("profile", "packages"), ("portage", "candidate")],
)
def test_other_code_of_a_stage_makes_it_anew(
    part: str, holds: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = left_by(keys(load(folder)))
    digest = inputs._code_digest
    monkeypatch.setattr(inputs, "_code_digest", lambda one: "other" if one == part else digest(one))
    after = start(entries, keys(load(folder)))
    assert after.stage == holds
    if holds != "candidate":
        assert f"{CODE} changed" in after.why.values()


def test_images_of_equal_bootstrap_share_it_and_nothing_else(folder: Path) -> None:
    other = folder.with_name("all2")
    shutil.copytree(folder, other, symlinks=True)
    known = keys(load(other))
    after = start(left_by(keys(load(folder))), known)
    assert after.stage == "packages", "the name is an input of the profile"


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
