"""Checking an artifact before anybody receives it.

`zfs recv` finds damage only after it has begun to write, and `zstream dump` ends with status 0 on a truncated stream
and on a flipped bit (facts/zfs.md). The manifest's size and digest find both, in one pass over the file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.artifact.manifest import FILE, Manifest, load
from pipeline.artifact.receive import SUMS, sums
from pipeline.artifact.room import size
from pipeline.artifact.stream import HEADER_BYTES, header
from pipeline.errors import CheckFailed, InputError

_BLOCK = 1 << 20


def check(folder: Path) -> Manifest:
    """Compares the stream in `folder` with its manifest; returns the manifest if all is well.

    Raises `InputError` if there is no manifest, or a broken one, and `CheckFailed`, in one line, if the stream is
    missing, cut off, changed, or another one.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no directory", hint="name an artifact's folder, e.g. artifacts/web1")
    manifest = load(folder)
    path = folder / manifest.stream.file
    try:
        _check_stream(path, manifest)
        _check_sums(folder / SUMS, manifest)
    except FileNotFoundError as error:
        others = ", ".join(sorted(other.name for other in folder.glob("*.zfs")))
        raise CheckFailed(
            f"{path} is missing" + (f": {FILE} is about that file, and not about {others}" if others else "")
        ) from error
    except OSError as error:
        raise CheckFailed(f"{error.filename or path} cannot be read: {error.strerror}") from error
    return manifest


def is_of(folder: Path, guid: str) -> bool:
    """Whether the artifact in `folder` is of the snapshot with this guid: by its manifest and the stream's size."""
    try:
        manifest = load(folder)
        return manifest.snapshot.guid == guid and (folder / manifest.stream.file).stat().st_size == manifest.stream.size
    except (InputError, OSError):
        return False


def _check_stream(path: Path, manifest: Manifest) -> None:
    expected = manifest.stream
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        there = path.stat().st_size
        beginning = file.read(HEADER_BYTES)
        if there >= HEADER_BYTES:
            try:
                guid = header(beginning).guid
            except InputError as error:
                raise CheckFailed(f"{path} is damaged: {error}") from error
            if guid != int(manifest.snapshot.guid):
                raise CheckFailed(
                    f"{path} is the stream of another snapshot: guid {guid}, {FILE} says {manifest.snapshot.guid}"
                )
        if there < expected.size:
            raise CheckFailed(f"{path} is {expected.size - there} bytes short: the copy is incomplete")
        if there > expected.size:
            raise CheckFailed(f"{path} is {there - expected.size} bytes too long: it is not the file of {FILE}")
        digest.update(beginning)
        buffer = memoryview(bytearray(_BLOCK))
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    if digest.hexdigest() != expected.sha256:
        raise CheckFailed(
            f"{path} is damaged: its SHA-256 is {digest.hexdigest()}, {FILE} says {expected.sha256}; do not receive it"
        )


def _check_sums(path: Path, manifest: Manifest) -> None:
    if path.exists() and sums(manifest) not in path.read_text(encoding="utf-8", errors="replace"):
        raise CheckFailed(f"{path} and {FILE} disagree about {manifest.stream.file}")


def summary(manifest: Manifest) -> str:
    """What a manifest says, in a few lines for people."""
    results = [check.result for check in manifest.checks]
    seconds = sum(check.seconds for check in manifest.checks)
    counts = ", ".join(f"{results.count(result)} {result}" for result in sorted(set(results))) or "none"
    where = manifest.place.kind + (f" ({manifest.place.accelerator})" if manifest.place.accelerator != "none" else "")
    versions = manifest.versions
    rows = (
        ("image", f"{manifest.image} {manifest.version}"),
        ("snapshot", f"{manifest.snapshot.name}, guid {manifest.snapshot.guid}"),
        ("stream", f"{manifest.stream.file}, {size(manifest.stream.size)}"),
        ("sha256", manifest.stream.sha256),
        ("needs", ", ".join(manifest.stream.features) or "no pool features"),
        ("checks", f"{counts}, in {seconds:.0f} s"),
        ("tree", f"{manifest.tree.entries} entries, {size(manifest.tree.bytes)}, {manifest.tree.sha256}"),
        ("packages", str(len(manifest.packages))),
        (
            "built with",
            f"goldspawn {versions.goldspawn}, OpenZFS {versions.openzfs}, systemd {versions.systemd}, {where}",
        ),
        ("receive", manifest.receive),
    )
    return "\n".join(f"{name:<11}{text}" for name, text in rows)
