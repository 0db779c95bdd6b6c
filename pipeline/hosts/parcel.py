"""An artifact on its way home: sent file by file over a line of messages, and published here whole or not at all.

The line may be any that carries dicts of plain values and bytes in order. Each file's digest is taken at both ends,
and a stream's has to be that of the manifest. What lies at home of earlier versions stays, as if it was exported there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from pipeline.artifact import folder, index, manifest, shelf
from pipeline.errors import CheckFailed, PlaceError

BLOCK = 1 << 20
"""Bytes of a message."""

PARCEL, CHUNK, SEALED = "parcel", "chunk", "sealed"

Message = dict[str, Any]


class Send(Protocol):
    """What sends one message."""

    def __call__(self, message: Message, /) -> object: ...


def send(source: Path, say: Send, keep: int, on_progress: Callable[[int], object] = lambda done: None) -> None:
    """Sends the files of the folder `source`, of which `keep` versions are to stay at home; `on_progress` is told the
    bytes sent so far.
    """
    files = sorted(path for path in source.iterdir() if path.is_file())
    sizes = [[path.name, path.stat().st_size] for path in files]
    say({"kind": PARCEL, "image": source.name, "keep": keep, "files": sizes})
    sums, done = {}, 0
    for path in files:
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                digest.update(block)
                say({"kind": CHUNK, "data": block})
                done += len(block)
                on_progress(done)
        sums[path.name] = digest.hexdigest()
    say({"kind": SEALED, "sums": sums})


def receive(announced: Message, messages: Iterator[Message], artifacts: Path) -> Path:
    """Takes the parcel that a message announced, and publishes it as a folder in `artifacts`.

    Raises `PlaceError` when there is no room, or `messages` ends in the middle, and `CheckFailed` when what came is
    not what was sent. What was published before then stays as it is.
    """
    files = [(_plain(name), int(size)) for name, size in announced["files"]]
    target = artifacts / _plain(announced["image"])
    artifacts.mkdir(parents=True, exist_ok=True)
    folder.sweep(artifacts, target.name)
    folder.check_room(artifacts, sum(size for _, size in files))
    with folder.publishing(target) as partial:
        sums = {name: _file(partial / name, size, messages) for name, size in files}
        sealed = _next(messages, SEALED)["sums"]
        if wrong := [name for name in sums if sums[name] != sealed.get(name)]:
            raise CheckFailed(f"{target}: {', '.join(wrong)} changed on the way from the build host")
        made = manifest.load(partial)
        for stream in index.streams(made):
            if sums.get(stream.file) != stream.sha256:
                raise CheckFailed(f"{target}: {stream.file} is not the stream that its manifest describes")
        shelf.finish(made, target, partial, int(announced["keep"]))
    return target


def _file(path: Path, size: int, messages: Iterator[Message]) -> str:
    digest = hashlib.sha256()
    with path.open("wb", buffering=0) as file:
        while size > 0:
            block: bytes = _next(messages, CHUNK)["data"]
            digest.update(block)
            file.write(block)
            size -= len(block)
    if size:
        raise CheckFailed(f"{path.name}: the build host sent more than it said")
    return digest.hexdigest()


def _next(messages: Iterator[Message], kind: str) -> Message:
    message = next(messages, None)
    if message is None or message["kind"] != kind:
        raise PlaceError("the build host was lost while it sent the artifact")
    return message


def _plain(name: object) -> str:
    """A name that stays in its folder, whatever a host says."""
    text = str(name)
    if not text or text.startswith(".") or "/" in text or "\0" in text:
        raise CheckFailed(f"a build host sent a file called {text!r}")
    return text
