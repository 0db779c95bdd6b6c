"""A stream becomes a file that is whole, and its header tells what a receiver needs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.artifact import stream
from pipeline.errors import InputError, PlaceError

DATA = Path(__file__).parent / "data/streams"


def begin(flags: int = 0, order: str = "<", guid: int = 2**63 + 1) -> bytes:
    """The first record of a stream, as sys/zfs_ioctl.h describes it."""
    version = 1 | flags << 2
    return struct.pack(f"{order}IIQQQIIQQ256s", 0, 0, 0x2F5BACBAC, version, 0, 2, 0, guid, 0, b"pool/image@golden")


def sender(size: int, piece: int = 131072, beginning: bytes = begin()) -> Callable[[int], None]:
    def send(descriptor: int) -> None:
        os.write(descriptor, beginning)
        left = size - len(beginning)
        while left > 0:
            left -= os.write(descriptor, bytes(min(piece, left)))

    return send


@pytest.mark.parametrize("size", [312, 313, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (20 << 20) + 7])
def test_size_and_digest_are_those_of_the_file(size: int, tmp_path: Path) -> None:
    target = tmp_path / "image.zfs"
    seen: list[int] = []
    written = stream.write(sender(size), target, on_progress=seen.append)
    contents = target.read_bytes()
    assert (written.size, written.sha256) == (len(contents), hashlib.sha256(contents).hexdigest())
    assert written.size == size == seen[-1]
    assert seen == sorted(seen)


def test_blocks_stay_in_their_order(tmp_path: Path) -> None:
    parts = [begin(), *(os.urandom(99_991) for _ in range(150))]
    written = stream.write(
        lambda descriptor: [os.write(descriptor, part) for part in parts][:0] or None, tmp_path / "x"
    )
    assert (tmp_path / "x").read_bytes() == b"".join(parts)
    assert written.sha256 == hashlib.sha256(b"".join(parts)).hexdigest()


def test_the_pipe_is_enlarged_and_given_back(tmp_path: Path) -> None:
    sizes: list[int] = []
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    threads = threading.active_count()

    def send(descriptor: int) -> None:
        sizes.append(fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ))
        sender(1 << 20)(descriptor)

    stream.write(send, tmp_path / "x")
    assert sizes == [1 << 20]
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert threading.active_count() == threads


class SendFailed(Exception):
    pass


@pytest.mark.parametrize("after", [0, 312, 5 << 20])
def test_a_failing_send_is_told_as_it_is(after: int, tmp_path: Path) -> None:
    def send(descriptor: int) -> None:
        if after:
            sender(after)(descriptor)
        raise SendFailed

    with pytest.raises(SendFailed):
        stream.write(send, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "line"), [(0, "0 bytes, too short"), (100, "100 bytes, too short"), (400, "begins with 61 61")]
)
def test_what_is_no_stream_leaves_no_file(size: int, line: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no ZFS stream: .*{line}"):
        stream.write(lambda descriptor: [os.write(descriptor, b"a" * size)][:0] or None, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_ends_the_sender_and_leaves_no_file(tmp_path: Path) -> None:
    broken: list[bool] = []

    def send(descriptor: int) -> None:
        try:
            sender(1 << 30)(descriptor)
        except BrokenPipeError:
            broken.append(True)
            raise

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream.write(send, tmp_path / "x", on_progress=interrupt)
    assert broken == [True]
    assert list(tmp_path.iterdir()) == []


def test_a_sender_that_does_not_end_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_END_LIMIT", 0.1)
    go_on = threading.Event()

    def send(descriptor: int) -> None:
        sender(312)(descriptor)
        os.dup2(os.open("/dev/null", os.O_WRONLY), descriptor)  # the pipe ends, and the sender does not
        go_on.wait(30)

    try:
        with pytest.raises(PlaceError, match="its sender has not"):
            stream.write(send, tmp_path / "x")
    finally:
        go_on.set()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    path = tmp_path / "small"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", path], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_is_one_clear_line(small: Path) -> None:
    with pytest.raises(PlaceError, match=r"no room in .*/small: 64.0 MiB are needed, 4.0 MiB were written, .* free"):
        stream.write(sender(64 << 20), small / "x", expected=64 << 20)
    assert list(small.iterdir()) == []


def test_a_target_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(PlaceError, match="x cannot be written: File exists"):
        stream.write(sender(312), tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"


def test_a_target_in_no_directory_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="gone does not exist"):
        stream.write(sender(312), tmp_path / "gone/x")


@pytest.mark.parametrize("order", "<>", ids=["little-endian", "big-endian"])
def test_a_header_is_read_in_either_byte_order(order: str) -> None:
    found = stream.header(begin(1 << 22 | 1 << 25 | 1 << 15, order))
    assert found == stream.Header(2**63 + 1, "pool/image@golden", 0, ("bit 15", "compressed", "zstd"), compound=False)


@pytest.mark.parametrize(
    ("bit", "needed"),
    [
        (16, ("embedded_data",)),
        (17, ("lz4_compress",)),
        (19, ("extensible_dataset", "large_blocks")),
        (21, ("extensible_dataset", "redacted_datasets")),
        (22, ()),
        (23, ("extensible_dataset", "large_dnode")),
        (24, ("bookmark_v2", "encryption", "extensible_dataset")),
        (25, ("extensible_dataset", "zstd_compress")),
        (28, ("extensible_dataset", "longname")),
        (29, ("extensible_dataset", "large_blocks", "large_microzap")),
    ],
)
def test_each_flag_asks_for_its_pool_features(bit: int, needed: tuple[str, ...]) -> None:
    assert stream.features(begin(1 << bit)) == needed


LEC = ("sa_spill", "embed_data", "lz4", "compressed")
NEEDED = ("embedded_data", "lz4_compress")
ZSTD_GUID = 14564659355416649358
REAL: dict[str, tuple[int, int, tuple[str, ...], tuple[str, ...]]] = {
    "plain-off": (16179669970359616067, 0, ("sa_spill",), ()),
    "plain-lz4": (13795967628455314968, 0, ("sa_spill",), ()),
    "plain-zstd": (ZSTD_GUID, 0, ("sa_spill",), ()),
    "Lec-off": (16179669970359616067, 0, LEC, NEEDED),
    "Lec-lz4": (13795967628455314968, 0, LEC, NEEDED),
    "Lec-zstd": (ZSTD_GUID, 0, (*LEC, "zstd"), (*NEEDED, "extensible_dataset", "zstd_compress")),
    "Lec-large": (
        7029430838487011478,
        0,
        ("sa_spill", "embed_data", "lz4", "large_blocks", "compressed", "large_dnode", "zstd"),
        (*NEEDED, "extensible_dataset", "large_blocks", "large_dnode", "zstd_compress"),
    ),
    "incremental-zstd": (
        4720654903195939777,
        ZSTD_GUID,
        (*LEC, "zstd"),
        (*NEEDED, "extensible_dataset", "zstd_compress"),
    ),
    "raw": (
        6086966338196098684,
        0,
        ("sa_spill", "lz4", "compressed", "raw"),
        ("bookmark_v2", "encryption", "extensible_dataset", "lz4_compress"),
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_headers_of_real_streams(name: str) -> None:
    beginning = (DATA / f"{name}.head").read_bytes()
    guid, from_guid, flags, needed = REAL[name]
    found = stream.header(beginning)
    assert (found.guid, found.from_guid, found.flags, found.compound) == (guid, from_guid, flags, False)
    dataset = {"incremental": "zstd", "raw": "enc"}.get(name.split("-")[0], name.split("-")[-1])
    assert found.name == f"s/{dataset}@{'next' if from_guid else 'golden'}"
    assert stream.features(beginning) == tuple(sorted(needed))


@pytest.mark.parametrize("name", ["package", "properties"])
def test_a_package_of_streams_is_recognised(name: str) -> None:
    assert stream.header((DATA / f"{name}.head").read_bytes()).compound
