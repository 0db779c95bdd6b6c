"""What goes to a build host and what comes back: all of it, unchanged, and nothing that leads elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.artifact import choose, index, manifest, shelf, verify
from pipeline.errors import CheckFailed, GoldspawnError, InputError, PlaceError
from pipeline.hosts import Freight, Host, earlier, parcel
from pipeline.plugin.hosts import needed
from tests.test_artifact_index import files, publish
from tests.test_artifact_verify import artifact  # noqa: F401

Messages = list[parcel.Message]


@pytest.fixture
def sent(artifact: Path) -> Messages:  # noqa: F811
    """An artifact as the messages in which it travels."""
    messages: Messages = []
    parcel.send(artifact, messages.append, 5)
    return messages


def take(messages: Messages, home: Path) -> Path:
    return parcel.receive(messages[0], iter(messages[1:]), home)


def test_an_artifact_arrives_whole(sent: Messages, artifact: Path, tmp_path: Path) -> None:  # noqa: F811
    home = take(sent, tmp_path / "home")
    assert {path.name: path.read_bytes() for path in home.iterdir()} == {
        path.name: path.read_bytes() for path in artifact.iterdir()
    }
    assert verify.check(home).image == "image"


def _cut(messages: Messages) -> Messages:
    return messages[:-3]


def _flipped(messages: Messages) -> Messages:
    chunk = max((one for one in messages if one["kind"] == "chunk"), key=lambda one: len(one["data"]))
    chunk["data"] = chunk["data"][:-1] + bytes([chunk["data"][-1] ^ 1])
    return messages


def _longer(messages: Messages) -> Messages:
    messages[1] = {"kind": "chunk", "data": messages[1]["data"] + b"x"}
    return messages


def _leading_out(messages: Messages) -> Messages:
    messages[0]["files"][0][0] = "../image.toml"
    return messages


def _elsewhere(messages: Messages) -> Messages:
    messages[0]["image"] = "/etc"
    return messages


@pytest.mark.parametrize("harm", [_cut, _flipped, _longer, _leading_out, _elsewhere])
def test_what_arrives_otherwise_leaves_the_old_one(
    harm: Callable[[Messages], Messages], sent: Messages, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    old = take(sent, home)
    (old / "old").touch()
    with pytest.raises((PlaceError, CheckFailed)):
        take(harm(sent), home)
    assert [path.name for path in home.iterdir()] == ["image"]
    assert (old / "old").exists()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where three versions of the image `web` were exported to."""
    for number in (1, 2, 3):
        publish(tmp_path / "home/web", number)
    return tmp_path / "home"


def arrive(number: int, tmp_path: Path, home: Path, *, keep: int = 5) -> Path:
    """Version `number` of `web`, made on a host that has no other, comes home."""
    publish(tmp_path / f"run{number}/web", number)
    messages: Messages = []
    parcel.send(tmp_path / f"run{number}/web", messages.append, keep)
    return take(messages, home)


def test_what_comes_home_stands_beside_the_deltas_of_earlier_versions(home: Path, tmp_path: Path) -> None:
    web = arrive(4, tmp_path, home)
    assert verify.check(web).version == "4"
    listed = index.load(web)
    assert (listed.newest, [one.version for one in listed.versions]) == ("4", ["2", "3", "4"])
    assert [one.file for one in listed.streams] == ["web-1-2.zfs", "web-2-3.zfs", "web-4.zfs", "web-3-4.zfs"]
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=web, check=True, capture_output=True)
    assert str(choose.plan(listed, ["101"])).startswith("web-1-2.zfs (")
    arrive(5, tmp_path, home, keep=2)
    assert [one.version for one in index.load(web).versions] == ["4", "5"]
    assert not (web / "web-4.zfs").exists(), "of an earlier version the deltas stay"


def test_a_delta_at_home_that_is_not_whole_is_not_in_the_new_index(home: Path, tmp_path: Path) -> None:
    with (home / "web/web-2-3.zfs").open("r+b") as file:
        file.write(b"X")
    web = arrive(4, tmp_path, home)
    assert [one.version for one in index.load(web).versions] == ["2", "4"]
    assert verify.check(web).version == "4"


def test_the_same_version_again_keeps_its_deltas(home: Path, tmp_path: Path) -> None:
    before = manifest.load(home / "web")
    publish(tmp_path / "run/web", 3, deltas=False)
    messages: Messages = []
    parcel.send(tmp_path / "run/web", messages.append, 5)
    assert manifest.load(take(messages, home)).deltas == before.deltas
    assert verify.check(home / "web").deltas == before.deltas


def test_a_build_host_knows_what_is_at_home_without_its_streams(home: Path, tmp_path: Path) -> None:
    (home / "web/journal.log").write_text("it booted")
    there = tmp_path / "there"
    earlier.put(earlier.tell(home / "web"), there)
    assert verify.current(there, "103") == {"102"}, "an unchanged image need not be sent again"
    assert shelf.manifests(there) == shelf.manifests(home / "web")
    assert (there / "journal.log").read_text() == "it booted"
    assert sum(path.stat().st_blocks for path in there.glob("*.zfs")) == 0
    assert not shelf.take(manifest.load(there).deltas[0], there, tmp_path), "a hole is never taken for a stream"
    with (home / "web/web-3.zfs").open("ab") as file:
        file.write(b"X")
    again = tmp_path / "again"
    earlier.put(earlier.tell(home / "web"), again)
    assert verify.current(again, "103") is None
    assert earlier.tell(home / "other") == {"files": {}, "sizes": {}}


def test_a_delta_that_is_not_the_manifests_is_refused(home: Path, tmp_path: Path) -> None:
    before = files(home / "web")
    publish(tmp_path / "run/web", 4)
    with (tmp_path / "run/web/web-3-4.zfs").open("r+b") as file:
        file.write(b"X")
    messages: Messages = []
    parcel.send(tmp_path / "run/web", messages.append, 5)
    with pytest.raises(CheckFailed, match=r"web-3-4\.zfs is not the stream that its manifest describes"):
        take(messages, home)
    assert files(home / "web") == before


def test_a_stream_that_is_not_the_manifests_is_refused(artifact: Path, tmp_path: Path) -> None:  # noqa: F811
    """Such as one that was damaged on the host's disk before it was sent."""
    (stream,) = artifact.glob("*.zfs")
    stream.write_bytes(stream.read_bytes()[:-1] + b"x")
    messages: Messages = []
    parcel.send(artifact, messages.append, 5)
    with pytest.raises(CheckFailed, match="is not the stream that its manifest describes"):
        take(messages, tmp_path / "home")


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Path]:
    """A folder of images with all that such a folder can hold."""
    folder = tmp_path / "images"
    root = folder / "web1/root"
    root.mkdir(parents=True)
    (folder / "web1/image.toml").write_text("")
    (root / "empty").mkdir()
    (root / ".hidden").write_text("x")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o4755)
    (root / "odd\nname").write_text("")
    (root / "link").symlink_to("/nowhere/at/all")
    (folder / ".git").mkdir()
    (folder / ".git/objects").write_text("many")
    yield folder


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder with what is ours of the code."""
    folder = tmp_path / "code"
    for name in ("pipeline", "stages"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(name)
    return folder


def unpacked(freight: Freight, to: Path) -> Path:
    to.mkdir()
    with freight.packed() as tar:
        subprocess.run(["tar", "--extract", "--file=-", f"--directory={to}"], stdin=tar, check=True)
    return to


def test_images_and_code_arrive_as_they_are(images: Path, code: Path, tmp_path: Path) -> None:
    (images / "artifacts").mkdir()
    freight = Freight(code, [images, tmp_path / "not-there"], without=[images / "artifacts"])
    there = unpacked(freight, tmp_path / "there")
    assert (there / str(code).lstrip("/") / "stages/__init__.py").read_text() == "stages"
    copy = there / str(images).lstrip("/")
    assert sorted(path.name for path in copy.iterdir()) == ["web1"]
    root = copy / "web1/root"
    assert (root / "run.sh").stat().st_mode & 0o7777 == 0o4755
    assert (root / "link").readlink() == Path("/nowhere/at/all")
    assert {path.name for path in root.iterdir()} == {"empty", ".hidden", "run.sh", "odd\nname", "link"}
    assert (root / "run.sh").stat().st_mtime_ns == (images / "web1/root/run.sh").stat().st_mtime_ns


def test_what_has_changed_is_another_freight(images: Path, code: Path) -> None:
    keys = [Freight(code, [images]).key]
    assert Freight(code, [images]).key == keys[0]
    for change in (
        lambda: (images / "web1/image.toml").write_text("x"),
        lambda: (images / "web1/root/run.sh").chmod(0o755),
        lambda: (images / "web1/new").mkdir(),
        lambda: os.utime(images / "web1/image.toml", (1, 1)),
        lambda: shutil.rmtree(images / "web1/root"),
    ):
        change()
        keys.append(Freight(code, [images]).key)
    assert len(set(keys)) == len(keys)


def test_an_image_that_is_named_takes_along_all_that_it_stands_on(tmp_path: Path) -> None:
    for place, name, definition in (
        ("a", "top", 'from = "middle"\n'),
        ("a", "middle", 'from = "base"\n'),
        ("a", "other", ""),
        ("b/deep", "base", '[bootstrap]\nmethod = "tarball"\ntarball = "../../root.tar"\n'),
    ):
        folder = tmp_path / place / name
        (folder / "root").mkdir(parents=True)
        (folder / "image.toml").write_text(definition)
    chain = {tmp_path / "a/top", tmp_path / "a/middle", tmp_path / "b/deep/base", tmp_path / "b/root.tar"}
    for named in ("a/top", "a/top/image.toml", "a/top/test_it.py"):
        assert needed(tmp_path / named, [tmp_path / "b"]) == chain
    assert needed(tmp_path / "a", [tmp_path / "b"]) == {tmp_path / "a"}
    (tmp_path / "a/middle/image.toml").write_text("from =")
    assert needed(tmp_path / "a/top", [tmp_path / "b"]) == {tmp_path / "a/top"}, "which is told when it is collected"


def test_a_home_directory_is_not_sent_by_mistake(code: Path, tmp_path: Path) -> None:
    with (tmp_path / "disk.img").open("wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(InputError, match=r"5\.4 GB would be sent to each build host.*\nhint: name the images"):
        Freight(code, [tmp_path])


def test_a_host_is_written_as_execnet_writes_it() -> None:
    host = Host.parse("ssh=root@build1//python=/opt/gs/bin/python//env:GOLDSPAWN_DATASET=tank/gs")
    assert host == Host("root@build1", "/opt/gs/bin/python", (("GOLDSPAWN_DATASET", "tank/gs"),))
    assert host.name == "build1"
    assert host.ssh("echo 'a b'")[-2:] == [
        "root@build1", "exec sh -c 'export GOLDSPAWN_DATASET=tank/gs; echo '\"'\"'a b'\"'\"''",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "-oProxyCommand=x", "a b", "build1//pythn=x", "build1//python=", "build1//env:A"])
def test_what_is_no_host_is_told_in_one_line(text: str) -> None:
    with pytest.raises(GoldspawnError, match=r'^build host "'):
        Host.parse(text)
