"""Reuse: any change of any input makes exactly the stages anew that read it, and those that stand on them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.image import load
from pipeline.reuse import inputs
from pipeline.reuse.inputs import CODE, keys
from pipeline.zfs import Entry
from tests.left import NOW, folder, left_by, start

__all__ = ["folder"]


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
