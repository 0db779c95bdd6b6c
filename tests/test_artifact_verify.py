"""Damage to an artifact is found before anybody receives it, and told in one line."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.artifact import index, manifest, receive, stream, verify
from pipeline.errors import InputError

REPOSITORY = Path(__file__).parent.parent
GUID = 17_263_500_112_233_445_566


def made(folder: Path, guid: int = GUID, *, file: str = "image-1.zfs") -> manifest.Manifest:
    """An artifact with a stream of 3 MB."""
    begin = struct.pack("<IIQQQIIQQ256s", 0, 0, 0x2F5BACBAC, 1 | (1 << 25) << 2, 0, 2, 0, guid, 0, b"pool/image@golden")

    def send(descriptor: int) -> None:
        os.write(descriptor, begin)
        for _ in range(24):
            os.write(descriptor, os.urandom(131072))

    written = stream.write(send, folder / file)
    result = manifest.Manifest(
        image="image",
        version="20261123T191500Z",
        time=datetime(2026, 11, 23, 19, 15, tzinfo=UTC),
        input_hash="0" * 64,
        snapshot=manifest.Snapshot("pool/golden/image@1", str(guid)),
        stream=manifest.Stream(file, written.size, written.sha256, written.features),
        versions=manifest.Versions("2.3.9", "257", "0.1.0", "6.12.1"),
        place=manifest.Place("appliance", "tcg"),
        checks=(manifest.Check("tests/images/image/test_it.py::test_it[image]", "passed", 1.5),),
        tree=manifest.Tree("1" * 64, 3, 4),
        packages=(manifest.Package("libc6", "2.41-12", "amd64"),),
        receive=receive.command("image", file),
    )
    result.save(folder)
    listed = index.of({manifest.FILE: result}, folder)
    listed.save(folder)
    receive.save(result, listed, folder)
    return result


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "image"
    folder.mkdir()
    made(folder)
    return folder


def command(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.artifact", *argv], cwd=REPOSITORY, capture_output=True, text=True
    )


def test_a_whole_artifact_passes(artifact: Path) -> None:
    done = command("check", artifact)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{artifact}/image-1.zfs is whole: 3.0 MiB, SHA-256 ")
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=artifact, check=True)


def _flip(artifact: Path, at: int) -> None:
    with (artifact / "image-1.zfs").open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def _of_other_file(artifact: Path) -> None:
    (artifact / "image-1.zfs").rename(artifact / "image-2.zfs")


def _of_other_build(artifact: Path) -> None:
    (artifact / "image-1.zfs").unlink()
    text = (artifact / "manifest.json").read_text()
    made(artifact, GUID + 1)
    (artifact / "manifest.json").write_text(text)


def _edit(key: str, value: object) -> Callable[[Path], object]:
    def edit(artifact: Path) -> None:
        path = artifact / "manifest.json"
        data: dict[str, Any] = json.loads(path.read_text())
        inner = data
        *parents, last = key.split(".")
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
        path.write_text(json.dumps(data))

    return edit


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (
        lambda artifact: os.truncate(artifact / "image-1.zfs", 3_144_806),
        "image-1.zfs is 1234 bytes short: the copy is incomplete",
    ),
    "truncated in its header": (
        lambda artifact: os.truncate(artifact / "image-1.zfs", 100),
        "image-1.zfs is 3145940 bytes short: the copy is incomplete",
    ),
    "too long": (
        lambda artifact: os.truncate(artifact / "image-1.zfs", 3_146_041),
        "image-1.zfs is 1 bytes too long: it is not the file of manifest.json",
    ),
    "a flipped bit": (lambda artifact: _flip(artifact, 2_000_000), "image-1.zfs is damaged: its SHA-256 is "),
    "a flipped last bit": (lambda artifact: _flip(artifact, 3_146_039), "image-1.zfs is damaged: its SHA-256 is "),
    "a flipped bit in its header": (
        lambda artifact: _flip(artifact, 8),
        "image-1.zfs is damaged: this is no ZFS stream: it begins with 00 00 00 00",
    ),
    "no stream": (lambda artifact: (artifact / "image-1.zfs").unlink(), "image-1.zfs is missing"),
    "a manifest of another file": (
        _of_other_file,
        "image-1.zfs is missing: manifest.json is about that file, and not about image-2.zfs",
    ),
    "a manifest of another build": (
        _of_other_build,
        f"image-1.zfs is the stream of another snapshot: guid {GUID + 1}, manifest.json says {GUID}",
    ),
    "other sums": (
        lambda artifact: (artifact / "SHA256SUMS").write_text("0  image-1.zfs\n"),
        "SHA256SUMS and manifest.json disagree about image-1.zfs",
    ),
    "no manifest": (
        lambda artifact: (artifact / "manifest.json").unlink(),
        "manifest.json: No such file or directory",
    ),
    "a cut manifest": (
        lambda artifact: os.truncate(artifact / "manifest.json", 300),
        "manifest.json: Invalid JSON: EOF while parsing",
    ),
    "a manifest of a later version": (
        _edit("schema_version", 3),
        "manifest.json: schema_version: Input should be 1 or 2",
    ),
    "an unknown key": (_edit("stream.colour", "red"), "manifest.json: stream.colour: Unexpected keyword argument"),
    "a path out of the folder": (
        _edit("stream.file", "../image-1.zfs"),
        "manifest.json: stream.file: String should match pattern",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_clear_line(fault: str, artifact: Path) -> None:
    spoil, line = FAULTS[fault]
    spoil(artifact)
    done = command("check", artifact)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"{artifact}/{line}"), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_folder_is_one_clear_line(tmp_path: Path) -> None:
    done = command("check", tmp_path / "gone")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, f"{tmp_path}/gone is no directory")


def test_show_prints_a_summary(artifact: Path) -> None:
    done = command("show", artifact)
    assert done.returncode == 0
    assert "checks     1 passed, in 2 s" in done.stdout
    assert "needs      extensible_dataset, zstd_compress" in done.stdout


def test_a_manifest_is_read_as_it_was_written(artifact: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    saved = made(other)
    assert manifest.load(other) == saved == manifest.load(other / "manifest.json")


def test_the_schema_in_docs_is_the_one_of_the_code() -> None:
    text = (REPOSITORY / "docs/manifest.schema.json").read_text()
    assert text == manifest.schema(), "python -m pipeline.artifact schema > docs/manifest.schema.json"


def test_a_manifest_follows_the_schema(artifact: Path) -> None:
    schema = json.loads(manifest.schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    data = json.loads((artifact / "manifest.json").read_text())
    jsonschema.validate(data, schema)
    del data["schema_version"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema)


def test_a_manifest_that_cannot_be_read_names_its_faults(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"manifest.json: image: Field required \(and 11 more\)$"):
        manifest.load(tmp_path)


def test_the_guide_has_what_a_host_needs(artifact: Path) -> None:
    text = (artifact / "RECEIVE.md").read_text()
    for line in (
        "sha256sum -c SHA256SUMS",
        "zfs recv -o acltype=posixacl -o xattr=sa -o mountpoint=/var/lib/machines/image tank/machines/image <",
        "install -D -m 644 -t /etc/systemd/nspawn image.nspawn",
        "machinectl start image",
        "machinectl shell image",
        "systemctl start systemd-nspawn@image",
        "`extensible_dataset`, `zstd_compress`",
    ):
        assert line in text
    loaded = verify.check(artifact)
    assert receive.lines(loaded, artifact)[1] == f"  sha256sum -c SHA256SUMS && {loaded.receive}"
