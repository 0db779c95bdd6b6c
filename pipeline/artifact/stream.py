"""A ZFS stream on its way into a file: size, digest and what its header says, all in one pass.

Who sends it is the caller's business (`libzfs_core.lzc_send`, or anything that writes to a file descriptor). The kernel
writes a stream in small pieces, which are slow on a shared folder: here they are gathered from a pipe into large
blocks, and written while the next block is gathered and the last one hashed.

The header is the record DRR_BEGIN, the first 312 bytes of a stream; its fields and flags are those of OpenZFS's
`sys/zfs_ioctl.h`, the pool features those that its `dmu_recv.c` asks for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import queue
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact.room import no_room, refused
from pipeline.errors import InputError, PlaceError

HEADER_BYTES = 312
"""How much of a stream's beginning `header` and `features` need."""

BLOCK = 1 << 20
"""Bytes gathered into one write."""

_BLOCKS = 8
_END_LIMIT = 120.0
"""Seconds that a sender has to notice that nobody reads any more."""

_MAGIC = 0x2F5BACBAC
_EXTENSIBLE = ("extensible_dataset",)
_FLAGS: dict[int, tuple[str, tuple[str, ...]]] = {
    0: ("dedup", ()),
    1: ("dedupprops", ()),
    2: ("sa_spill", ()),
    16: ("embed_data", ("embedded_data",)),
    17: ("lz4", ("lz4_compress",)),
    19: ("large_blocks", ("large_blocks", *_EXTENSIBLE)),
    20: ("resuming", _EXTENSIBLE),
    21: ("redacted", ("redacted_datasets", *_EXTENSIBLE)),
    22: ("compressed", ()),
    23: ("large_dnode", ("large_dnode", *_EXTENSIBLE)),
    24: ("raw", ("encryption", "bookmark_v2", *_EXTENSIBLE)),
    25: ("zstd", ("zstd_compress", *_EXTENSIBLE)),
    26: ("holds", ()),
    27: ("switch_to_large_blocks", ()),
    28: ("longname", ("longname", *_EXTENSIBLE)),
    29: ("large_microzap", ("large_microzap", "large_blocks", *_EXTENSIBLE)),
}
"""Bit of the stream's feature flags: its name, and the pool features (with what they depend on) that it asks for."""


@dataclass(frozen=True)
class Header:
    """What a stream says of itself. `from_guid` is 0 for a full stream; `flags` are the names of its feature flags."""

    guid: int
    name: str
    from_guid: int
    flags: tuple[str, ...]
    compound: bool
    """A package of streams, as `zfs send -R` and `-p` make it, and no plain one."""


@dataclass(frozen=True)
class Written:
    """A stream that lies on the disk whole: bytes, SHA-256, seconds taken, pool features that a receiver needs."""

    size: int
    sha256: str
    seconds: float
    features: tuple[str, ...]


def header(beginning: bytes) -> Header:
    """Reads the header of a stream from its first `HEADER_BYTES`, in either byte order.

    Raises `InputError` if this is no ZFS stream.
    """
    for order in "<>":
        if len(beginning) >= HEADER_BYTES:
            kind, _, magic, version, _, _, _, guid, from_guid, name = struct.unpack_from(
                f"{order}IIQQQIIQQ256s", beginning
            )
            if kind == 0 and magic == _MAGIC:
                bits = version >> 2 & 0x3FFFFFFF
                flags = tuple(_FLAGS[bit][0] if bit in _FLAGS else f"bit {bit}" for bit in range(30) if bits >> bit & 1)
                text = name.split(b"\0", 1)[0].decode(errors="replace")
                return Header(guid, text, from_guid, flags, version & 3 == 2)
    raise InputError(
        f"this is no ZFS stream: {len(beginning)} bytes, too short for a header"
        if len(beginning) < HEADER_BYTES
        else f"this is no ZFS stream: it begins with {beginning[:16].hex(' ')}"
    )


def features(beginning: bytes) -> tuple[str, ...]:
    """The pool features that a receiver needs, sorted, as `zpool get feature@NAME` has them.

    Takes the first `HEADER_BYTES` of a stream; raises `InputError` if this is none. A package of streams (`send -R`)
    says in its header only what the package needs.
    """
    flags = header(beginning).flags
    return tuple(sorted({name for flag, needed in _FLAGS.values() if flag in flags for name in needed}))


def write(
    send: Callable[[int], None],
    target: Path,
    *,
    on_progress: Callable[[int], None] | None = None,
    expected: int | None = None,
) -> Written:
    """Takes the stream that `send` writes to the file descriptor it is given (and leaves open) into a new file.

    `send` runs in a thread of its own. `on_progress` is called with the bytes gathered so far, after each block;
    `expected` is the size foreseen, in bytes, for the message when there is no room. The file is on the disk when this
    returns; if it raises, there is none. Raises `PlaceError` if the file cannot be written or is there already, what
    `send` raises, and `InputError` if `send` sent no ZFS stream.
    """
    begun = time.monotonic()
    try:
        file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise refused(target, error) from error
    whole = False
    try:
        with contextlib.closing(_Sink(file)) as sink:
            try:
                with _sending(send) as pipe:
                    beginning = sink.fill(pipe, on_progress)
                sink.finish()
            except OSError as error:
                if error is not sink.error:
                    raise
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise no_room(target.parent, expected, written=sink.written) from error
                raise refused(target, error) from error
        needed = features(beginning)
        whole = True
    finally:
        os.close(file)
        if not whole:
            with contextlib.suppress(OSError):
                target.unlink()
    return Written(sink.written, sink.sha256.hexdigest(), time.monotonic() - begun, needed)


@contextlib.contextmanager
def _sending(send: Callable[[int], None]) -> Iterator[int]:
    """Runs `send` in a thread; yields the end of the pipe to read from. Raises what `send` raised.

    Whatever ends the reading closes the pipe, so that the sender ends too.
    """
    reader, writer = os.pipe()
    # Only while the pipe is empty: Linux may lose the writer's wake-up otherwise (openzfs 13232).
    with contextlib.suppress(OSError):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, BLOCK)
    failure: list[BaseException] = []

    def run() -> None:
        try:
            send(writer)
        except BaseException as error:  # it is raised again in the thread that waits
            failure.append(error)
        finally:
            os.close(writer)

    thread = threading.Thread(target=run, name="send", daemon=True)
    thread.start()
    try:
        yield reader
    finally:
        os.close(reader)
        thread.join(_END_LIMIT)
    if thread.is_alive():
        raise PlaceError(f"the stream has ended, but its sender has not within {_END_LIMIT:.0f} s")
    if failure:
        raise failure[0]


class _Sink:
    """Blocks on their way into a file: gathered here, hashed in a second thread, written in a third, in order.

    After an error of the file the threads go on taking blocks, so that nobody waits for them, and drop them.
    """

    def __init__(self, file: int) -> None:
        self.file = file
        self.written = 0
        self.sha256 = hashlib.sha256()
        self.error: OSError | None = None
        self._free: queue.Queue[bytearray] = queue.Queue()
        for _ in range(_BLOCKS):
            self._free.put(bytearray(BLOCK))
        self._hash: queue.Queue[memoryview | None] = queue.Queue()
        self._write: queue.Queue[memoryview | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._hashing, name="hash", daemon=True),
            threading.Thread(target=self._writing, name="write", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def fill(self, pipe: int, on_progress: Callable[[int], None] | None) -> bytes:
        """Moves all that comes out of `pipe`; returns its beginning."""
        beginning = b""
        total = 0
        while self.error is None:
            block = memoryview(self._free.get())
            size = 0
            while size < BLOCK and (got := os.readv(pipe, [block[size:]])):
                size += got
            if size == 0:
                break
            if total == 0:
                beginning = bytes(block[: min(size, HEADER_BYTES)])
            total += size
            self._hash.put(block[:size])
            if on_progress is not None:
                on_progress(total)
        if self.error is not None:
            raise self.error
        return beginning

    def finish(self) -> None:
        """Waits until everything is hashed, written and on the disk."""
        self._stop()
        if self.error is None:
            try:
                os.fsync(self.file)
            except OSError as error:
                self.error = error
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self._stop()

    def _stop(self) -> None:
        self._hash.put(None)
        for thread in self._threads:
            thread.join()

    def _hashing(self) -> None:
        while (block := self._hash.get()) is not None:
            self.sha256.update(block)
            self._write.put(block)
        self._write.put(None)

    def _writing(self) -> None:
        while (block := self._write.get()) is not None:
            rest = block
            try:
                while self.error is None and rest:
                    count = os.write(self.file, rest)
                    self.written += count
                    rest = rest[count:]
            except OSError as error:
                self.error = error
            self._free.put(block.obj)  # type: ignore[arg-type]  # it is the bytearray that came from there
