"""What a build host has to know of the artifact that lies at home: all of it but its streams.

From that it sees that an image is there already, since when packages changed and from which version a delta is wanted,
and keeps what the machine said when it was last booted. In place of the streams it has holes of their sizes.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.artifact import index, manifest, shelf
from pipeline.hosts.parcel import Message

SHELF = "shelf"

_KEPT = ("journal.log", "boot.svg")


def ask(image: str) -> Message:
    """The message that asks for it."""
    return {"kind": SHELF, "image": image}


def tell(folder: Path) -> Message:
    """What is to be known of the artifact in `folder`; of one that is not there or cannot be read, nothing."""
    files = {name: (folder / name).read_bytes() for name in shelf.manifests(folder)}
    if manifest.FILE not in files:
        return {"files": {}, "sizes": {}}
    files |= {name: (folder / name).read_bytes() for name in _KEPT if (folder / name).is_file()}
    there = [(folder / one.file, one.size) for one in index.streams(manifest.load(folder))]
    whole = {path.name: size for path, size in there if path.is_file() and path.stat().st_size == size}
    return {"files": files, "sizes": whole}


def put(told: Message, folder: Path) -> None:
    """Makes of `folder`, on a build host, what the artifact's folder is at home. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in told["files"].items():
        (folder / name).write_bytes(data)
    for name, size in told["sizes"].items():
        with (folder / name).open("wb") as file:
            file.truncate(size)
