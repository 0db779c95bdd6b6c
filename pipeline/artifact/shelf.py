"""What stays in an image's folder when a new version is published: earlier versions' deltas and their manifests.

`finish` ends such a folder with what is said of all that lies in it.

The folder is published as a whole (see `folder`), so what stays is linked into the new one, or copied where the file
system has no hard links. Only a stream that is whole comes along: its bytes are read and compared with its manifest.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

from pipeline.artifact import index, receive
from pipeline.artifact.manifest import FILE, Delta, Manifest, load
from pipeline.errors import InputError

_PATTERN = "manifest-*.json"


def manifests(folder: Path) -> dict[str, Manifest]:
    """The manifests in a folder by their files' names, the oldest version first; what cannot be read is left out."""
    found: dict[str, Manifest] = {}
    for path in (*folder.glob(_PATTERN), folder / FILE):
        try:
            found[path.name] = load(path)
        except InputError:
            continue
    return dict(sorted(found.items(), key=lambda pair: pair[1].version))


def finish(made: Manifest, old: Path, new: Path, keep: int) -> Manifest:
    """Ends the folder `new`, in which the streams of `made` are, and which is to take the place of `old`.

    What is kept of `old` comes into it (see `carry`); so do deltas to the same snapshot that an earlier export left.
    Writes manifest, index, SHA256SUMS and RECEIVE.md; returns the manifest. Raises `OSError` and `PlaceError`.
    """
    there = {delta.origin.guid for delta in made.deltas}
    more = [delta for delta in again(old, made.snapshot.guid) if delta.origin.guid not in there]
    made = replace(made, deltas=(*(delta for delta in more if take(delta, old, new)), *made.deltas))
    made.save(new)
    everything = index.of({**carry(old, new, made, keep), FILE: made}, new)
    everything.save(new)
    receive.save(made, everything, new)
    return made


def carry(old: Path, new: Path, made: Manifest, keep: int) -> dict[str, Manifest]:
    """Takes the deltas of the `keep - 1` versions before `made` from the folder `old` into `new`, with manifests.

    Returns those manifests, by their files' names. A version of which nothing came along is left out. Raises `OSError`
    where `new` cannot be written.
    """
    earlier = [one for one in manifests(old).values() if one.version < made.version and one.image == made.image]
    kept: dict[str, Manifest] = {}
    for one in earlier[-(keep - 1) :] if keep > 1 else ():
        taken = [delta for delta in one.deltas if take(delta, old, new)]
        if taken:
            name = f"manifest-{one.version}.json"
            one.save(new, name)
            kept[name] = one
    return kept


def again(old: Path, guid: str) -> tuple[Delta, ...]:
    """The deltas in the folder `old` that lead to the very snapshot with this guid, from an earlier export of it."""
    return next((one.deltas for one in manifests(old).values() if one.snapshot.guid == guid), ())


def take(delta: Delta, old: Path, new: Path) -> bool:
    """Brings a delta's stream from the folder `old` into `new`; False if it is not there, or not whole."""
    source, target = old / delta.file, new / delta.file
    if target.exists() or not _whole(source, delta):
        return target.exists()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return True


def _whole(path: Path, delta: Delta) -> bool:
    try:
        if path.stat().st_size != delta.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == delta.sha256
    except OSError:
        return False
