"""The index names what is whole, earlier deltas stay, and a host is told what to fetch."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from pipeline.artifact import __main__ as command_line
from pipeline.artifact import choose, folder, index, manifest, receive, shelf, stream, verify
from pipeline.errors import InputError
from pipeline.lineage.deltas import Missing, base, previous
from pipeline.lineage.sending import Point

REPOSITORY = Path(__file__).parent.parent
FULL = 200_000
DELTA = 20_000


def sent(path: Path, guid: int, from_guid: int, size: int) -> stream.Written:
    """A file with a stream's header, and noise."""
    begin = struct.pack("<IIQQQIIQQ256s", 0, 0, 0x2F5BACBAC, 1, 0, 2, 0, guid, from_guid, b"pool/golden/web@x")
    return stream.write(lambda fd: (os.write(fd, begin + os.urandom(size - len(begin))), None)[1], path)


def publish(target: Path, number: int, *, deltas: bool = True, keep: int = 5) -> manifest.Manifest:
    """Publishes version `number` of the image `web`, whose guid is 100 and its number, as an export does."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with folder.publishing(target) as partial:
        file = f"web-{number}.zfs"
        whole = sent(partial / file, 100 + number, 0, FULL)
        changes: tuple[manifest.Delta, ...] = ()
        if deltas and number > 1:
            name = f"web-{number - 1}-{number}.zfs"
            part = sent(partial / name, 100 + number, 99 + number, DELTA)
            start = manifest.Origin(
                "previous", "web", f"{number - 1}", f"{99 + number}", f"pool/golden/web@{number - 1}"
            )
            changes = (
                manifest.Delta(
                    file=name, size=part.size, sha256=part.sha256, features=part.features, origin=start,
                    receive=receive.onward("web", name), beside=receive.beside("web", name, "1", "2"),
                ),
            )  # fmt: skip
        made = manifest.Manifest(
            image="web",
            version=f"{number}",
            time=datetime(2026, 11, 23, 19, number, tzinfo=UTC),
            input_hash="0" * 64,
            snapshot=manifest.Snapshot(f"pool/golden/web@{number}", f"{100 + number}"),
            stream=manifest.Stream(file, whole.size, whole.sha256, whole.features),
            versions=manifest.Versions("2.3.9", "257", "0.1.0", "6.12.1"),
            place=manifest.Place("native", "none"),
            checks=(),
            tree=manifest.Tree("1" * 64, 3, 4),
            packages=(),
            receive=receive.command("web", file),
            deltas=changes,
        )
        return shelf.finish(made, target, partial, keep)


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """Four versions, as the fourth left them."""
    for number in range(1, 5):
        publish(tmp_path / "web", number)
    return tmp_path / "web"


def files(path: Path) -> list[str]:
    return sorted(one.name for one in path.iterdir())


def test_earlier_deltas_and_their_manifests_stay_and_earlier_full_streams_do_not(web: Path) -> None:
    assert files(web) == [
        "RECEIVE.md",
        "SHA256SUMS",
        "index.json",
        "manifest-2.json",
        "manifest-3.json",
        "manifest.json",
        "web-1-2.zfs",
        "web-2-3.zfs",
        "web-3-4.zfs",
        "web-4.zfs",
    ]
    assert verify.check(web).version == "4"
    assert [(one.version, one.manifest) for one in index.load(web).versions] == [
        ("2", "manifest-2.json"),
        ("3", "manifest-3.json"),
        ("4", "manifest.json"),
    ]
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=web, check=True, capture_output=True)


def test_they_are_linked_and_where_that_cannot_be_copied(web: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (web / "web-1-2.zfs").stat().st_ino
    publish(web, 5)
    assert (web / "web-1-2.zfs").stat().st_ino == before

    def refuse(*arguments: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    publish(web, 6)
    assert (web / "web-2-3.zfs").exists()
    assert verify.check(web).version == "6"


@pytest.mark.parametrize(("keep", "left"), [(1, ["5"]), (2, ["4", "5"]), (9, ["2", "3", "4", "5"])])
def test_as_many_versions_are_kept_as_the_policy_says(keep: int, left: list[str], web: Path) -> None:
    publish(web, 5, keep=keep)
    assert [version.version for version in index.load(web).versions] == left
    assert verify.check(web).version == "5"


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut off": lambda path: os.truncate(path, DELTA - 1),
    "changed": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_stream_that_is_not_whole_is_never_in_the_next_index(damage: str, web: Path) -> None:
    path = web / "web-2-3.zfs"
    DAMAGE[damage](path)
    publish(web, 5)
    assert verify.check(web).version == "5"
    assert "web-2-3.zfs" not in {one.file for one in index.load(web).streams} | set(files(web))
    assert "web-1-2.zfs" in files(web)


def test_check_finds_what_became_of_a_delta(web: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (web / "web-1-2.zfs").write_bytes((web / "web-2-3.zfs").read_bytes())
    assert command_line.main(["check", str(web)]) == 1
    assert "web-1-2.zfs is the stream of another snapshot: guid 103, manifest.json says 102" in capsys.readouterr().err
    (web / "web-1-2.zfs").unlink()
    assert command_line.main(["check", str(web)]) == 1
    assert "web-1-2.zfs is missing" in capsys.readouterr().err


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[3]]
from tests.test_artifact_index import publish
target, calls = Path(sys.argv[1]), int(sys.argv[2])
count = 0
def watch(event, arguments):
    global count
    if event in ("os.mkdir", "os.rename", "os.remove", "os.link", "open", "ctypes.dlsym", "os.rmdir"):
        if any(str(target.parent) in str(one) for one in arguments) or event == "ctypes.dlsym":
            count += 1
            if count == calls:
                os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
publish(target, 3)
"""


def test_killed_at_any_point_the_index_names_only_what_is_whole(tmp_path: Path) -> None:
    """Killed before each call that touches the folder, one after the other, until it ends by itself."""
    seen = set()
    for calls in range(1, 90):
        target = tmp_path / str(calls) / "web"
        target.parent.mkdir()
        for number in (1, 2):
            publish(target, number)
        argv = [sys.executable, "-c", KILLED, str(target), str(calls), str(REPOSITORY)]
        status = subprocess.run(argv, cwd=REPOSITORY).returncode
        assert status in (0, -signal.SIGKILL)
        assert verify.check(target).version in ("2", "3"), "as a web server would have it at this moment"
        folder.sweep(target.parent)
        seen.add(verify.check(target).version)
        assert files(target.parent) == ["web"]
        if status == 0:
            break
    else:
        pytest.fail("it never ended by itself")
    assert seen == {"2", "3"}


CHAIN = ", then ".join(f"web-{number}-{number + 1}.zfs (19.5 KiB)" for number in (1, 2, 3))
CHOICES = [
    ((), "web-4.zfs (195.3 KiB): in full, since nothing that a delta starts from is there"),
    (("104",), "nothing to fetch: web 4 is there"),
    (("103", "7"), "web-3-4.zfs (19.5 KiB): what changed since web 3, which is there"),
    (("101",), f"{CHAIN}: what changed since web 1, which is there"),
    (("101", "102", "103"), "web-3-4.zfs (19.5 KiB): what changed since web 3, which is there"),
    (("7", "8"), "web-4.zfs (195.3 KiB): in full, since none of the 2 snapshots there is one that a delta starts from"),
]


@pytest.mark.parametrize(("have", "line"), CHOICES)
def test_a_host_is_told_in_one_line_what_to_fetch(
    have: tuple[str, ...], line: str, web: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for guid in have for word in ("--have", guid)]
    for where in (web, web / "index.json"):
        assert command_line.main(["choose", str(where), *words]) == 0
        assert capsys.readouterr().out == f"{line}\n"


def test_deltas_that_are_larger_than_all_of_it_are_not_chosen(web: Path) -> None:
    listed = index.load(web)
    fat = [
        dataclasses.replace(
            version,
            streams=tuple(dataclasses.replace(one, size=90_000) if one.from_guid else one for one in version.streams),
        )
        for version in listed.versions
    ]
    chosen = choose.plan(dataclasses.replace(listed, versions=tuple(fat)), {"101"})
    assert str(chosen) == "web-4.zfs (195.3 KiB): in full, since the deltas are larger, 263.7 KiB"


def test_an_index_follows_the_schema_in_docs(web: Path) -> None:
    text = (REPOSITORY / "docs/index.schema.json").read_text()
    assert text == index.schema(), "python -m pipeline.artifact schema index > docs/index.schema.json"
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    data = json.loads((web / "index.json").read_text())
    jsonschema.validate(data, schema)
    jsonschema.validate(json.loads((web / "manifest.json").read_text()), json.loads(manifest.schema()))
    delta = data["versions"][0]["streams"][0]
    assert {key: delta[key] for key in ("kind", "file", "size", "guid", "from_guid")} == {
        "kind": "previous", "file": "web-1-2.zfs", "size": DELTA, "guid": "102", "from_guid": "101",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["{}", "not JSON", '{"schema_version": 2}'])
def test_an_index_that_cannot_be_read_is_one_clear_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(InputError, match=r"^.*index\.json: .*$"):
        index.load(tmp_path)


def test_a_manifest_from_before_there_were_deltas_is_read(web: Path) -> None:
    data = json.loads((web / "manifest.json").read_text())
    del data["deltas"]
    (web / "manifest.json").write_text(json.dumps({**data, "schema_version": 1}))
    (web / "index.json").unlink()
    assert manifest.load(web).deltas == ()
    assert verify.check(web).version == "4"


def test_the_guide_and_the_last_lines_tell_how_a_host_goes_on(web: Path) -> None:
    text, made = (web / "RECEIVE.md").read_text(), manifest.load(web)
    assert "zfs recv tank/machines/web < web-3-4.zfs" in text
    assert "zfs recv -o origin=tank/machines/web@1 " in text
    assert "is for a host that has web 3. The snapshot's guid there is 103" in text
    assert receive.lines(made, web)[3:] == [
        "web-3-4.zfs, 19.5 KiB. On a host that has web 3:",
        "  sha256sum -c --ignore-missing SHA256SUMS && zfs recv tank/machines/web < web-3-4.zfs",
    ]


LINE = [Point(f"p/golden/web#2026010{n}T000000Z", f"10{n}") for n in (1, 2, 3)]
NEWEST = Point("p/golden/web@20260104T000000Z", "104")


def test_a_delta_starts_from_the_newest_version_that_was_exported(web: Path) -> None:
    published = [one for one in shelf.manifests(web).values() if one.snapshot.guid == "102"]
    assert previous([*LINE, NEWEST], NEWEST.name, published, began="") == LINE[1]
    assert previous([*LINE, NEWEST], NEWEST.name, [], began="") == LINE[2], "where the folder is gone, the newest"
    again = [one for one in shelf.manifests(web).values() if one.snapshot.guid == "104"]
    assert previous([*LINE, NEWEST], NEWEST.name, again, began="") == LINE[2]


def test_why_there_is_no_delta_is_said(web: Path) -> None:
    published = [one for one in shelf.manifests(web).values() if one.snapshot.guid == "102"]
    assert str(previous([NEWEST], NEWEST.name, [], began="")) == (
        "no delta from the previous version: this is the first one"
    )
    assert str(previous([NEWEST], NEWEST.name, published, began="the compression changed")) == (
        "no delta from the previous version: this builder has lost 2 (guid 102), since the compression changed"
    )
    own = Point("p/golden/web@by-hand", "9")
    assert isinstance(previous([own, NEWEST], NEWEST.name, [], began=""), Missing), "an operator's snapshot is none"


def test_a_delta_starts_from_the_base_and_what_is_wrong_with_that_is_said() -> None:
    first, second = "p/golden/base1@1", "p/golden/base1@2"
    assert base(second, ["base1"], second) == (second, None)
    assert base(second, ["middle", "base1"], second) == (second, None), "an image between the two need not be golden"
    start, lost = base(first, ["base1"], second)
    assert (start, str(lost)) == (first, "no delta from base1 2: its versions stand on base1 1")
    for found, names, why in (
        ("", [], "the image stands on no other (from)"),
        ("", ["base1"], "the base1 that its versions stand on was not golden when they began"),
        (first, ["base2"], "its versions stand on base1 1, and not on base2"),
    ):
        start, lost = base(found, names, second)
        assert (start, str(lost)) == ("", f"no delta from the base: {why}")
