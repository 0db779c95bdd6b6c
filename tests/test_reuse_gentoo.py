"""Reuse of Gentoo images: what is named by a path, and which stage reads it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.image import load
from pipeline.reuse import digest, inputs
from pipeline.reuse.inputs import keys
from tests.left import left_by, start
from tests.test_reuse import Change, edit

GENTOO = """
[bootstrap]
method = "gentoo"
portage = "portage"
jobs = 2
[bootstrap.builder]
tarball = "builder.tar"
[bootstrap.stage3]
tarball = "stage3.tar"
[bootstrap.make_conf]
USE = "-X"
[[bootstrap.repositories]]
name = "ours"
folder = "ours"
[[bootstrap.repositories]]
name = "theirs"
git = "https://example.org/theirs.git"
key = "theirs.asc"
[profile]
packages = ["app-editors/nano"]
"""

LARGE = (16 << 20) + 1


@pytest.fixture
def gentoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Gentoo image with all that can be named by a path; its cache is its own."""
    monkeypatch.setenv("GOLDSPAWN_CACHE", str(tmp_path / "cache"))
    made = tmp_path / "gentoo2"
    for name in ("portage/package.use/x", "ours/app-misc/x/x-1.ebuild", "ours/.git/HEAD", "theirs.asc"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    for name in ("builder.tar", "stage3.tar"):
        (made / name).write_text(name)
    (made / "image.toml").write_text(GENTOO)
    return made


def replaced_by_rsync(file: Path) -> None:
    """Another file of equal size and time takes the place, as `rsync --times` may bring it."""
    before = file.stat()
    fresh = file.with_name("fresh")
    with fresh.open("wb") as made:
        made.truncate(before.st_size)
        made.seek(5)
        made.write(b"other")
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.replace(file)


GENTOO_CHANGES = {
    "a file of /etc/portage": Change(
        lambda at: (at / "portage/package.use/x").write_text("y"), "", "folder portage changed"
    ),
    "a mode in /etc/portage": Change(lambda at: (at / "portage/package.use/x").chmod(0o600), "", "folder portage"),
    "a variable": Change(edit("-X", "X"), "", "make_conf"),
    "a repository's key": Change(lambda at: (at / "theirs.asc").write_text("y"), "", "file theirs.asc changed"),
    "a repository's address": Change(edit("example.org", "example.com"), "", "repositories"),
    "a stage3": Change(lambda at: (at / "stage3.tar").write_text("other"), "", "file stage3.tar changed"),
    "a builder": Change(lambda at: (at / "builder.tar").write_text("other"), "bootstrap", "builder"),
    "an ebuild": Change(
        lambda at: (at / "ours/app-misc/x/x-1.ebuild").write_text("y"), "bootstrap", "folder ours changed"
    ),
    "an ebuild more": Change(
        lambda at: (at / "ours/app-misc/x/x-2.ebuild").write_text("y"), "bootstrap", "folder ours changed"
    ),
    "what git keeps": Change(lambda at: (at / "ours/.git/FETCH_HEAD").write_text("y"), "candidate"),
    "how much is built at once": Change(edit("jobs = 2", "jobs = 3"), "candidate"),
    "what the machine shares with its host": Change(edit("jobs = 2", "jobs = 2\nshare = true"), "candidate"),
    "a package": Change(edit("nano", "vim"), "cycles", "packages"),
}


@pytest.mark.parametrize("change", GENTOO_CHANGES.values(), ids=GENTOO_CHANGES)
def test_a_change_of_a_gentoo_makes_anew_what_reads_it_and_no_more(change: Change, gentoo: Path) -> None:
    before = keys(load(gentoo))
    assert [one.stage for one in before.inputs] == ["bootstrap", "cycles", "packages", "candidate"]
    change.make(gentoo)
    known = keys(load(gentoo))
    after = start(left_by(before), known)
    assert after.stage == change.holds
    lowest = {"": "bootstrap", "bootstrap": "cycles", "cycles": "packages"}.get(change.holds)
    if lowest:
        assert change.told in after.why[lowest]
        assert all(stage == lowest or "stands on" in why for stage, why in after.why.items()), after.why
    # The tars have their names by the same keys.
    same = [one == other for one, other in zip(before.of_tars, known.of_tars, strict=True)]
    builder = change is not GENTOO_CHANGES["a builder"]
    assert same == {"": [False, builder, False], "bootstrap": [True, builder, False]}.get(change.holds, [True] * 3)


@pytest.mark.parametrize(
    ("part", "holds"), [("portage/configuration.py", ""), ("portage", "bootstrap"), ("gentoo", "bootstrap")]
)
def test_other_code_of_gentoo_makes_its_stage_anew(
    part: str, holds: str, gentoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = left_by(keys(load(gentoo)))
    digest = inputs._code_digest
    monkeypatch.setattr(inputs, "_code_digest", lambda one: "other" if one == part else digest(one))
    assert start(entries, keys(load(gentoo))).stage == holds


def test_a_large_file_is_read_once_and_known_by_its_bytes(gentoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = gentoo / "stage3.tar"
    with file.open("wb") as made:
        made.truncate(LARGE)
    entries = left_by(keys(load(gentoo)))
    monkeypatch.setattr(digest, "_SETTLED", -1.0)
    read: list[Path] = []
    really = digest._read
    monkeypatch.setattr(digest, "_read", lambda path: (read.append(path), really(path))[1])
    first = digest.of_file(file)
    assert (digest.of_file(file), read) == (first, [file])
    replaced_by_rsync(file)
    assert digest.of_file(file) != first
    assert read == [file, file]
    assert start(entries, keys(load(gentoo))).stage == ""
