"""What goes to a build host and what comes back: all of it, unchanged, and nothing that leads elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.artifact import verify
from pipeline.errors import CheckFailed, GoldspawnError, InputError, PlaceError
from pipeline.hosts import Freight, Host, parcel
from tests.test_artifact_verify import artifact  # noqa: F401

Messages = list[parcel.Message]


@pytest.fixture
def sent(artifact: Path) -> Messages:  # noqa: F811
    """An artifact as the messages in which it travels."""
    messages: Messages = []
    parcel.send(artifact, messages.append)
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


def test_a_stream_that_is_not_the_manifests_is_refused(artifact: Path, tmp_path: Path) -> None:  # noqa: F811
    """Such as one that was damaged on the host's disk before it was sent."""
    (stream,) = artifact.glob("*.zfs")
    stream.write_bytes(stream.read_bytes()[:-1] + b"x")
    messages: Messages = []
    parcel.send(artifact, messages.append)
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
