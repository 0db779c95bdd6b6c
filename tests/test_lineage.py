"""The line of golden versions: grafted, compared before it counts, and never lost by a kill; sent raw where encrypted.

On trees of some files, in a pool of their own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from pipeline.artifact import stream, tree, walk
from pipeline.command import run
from pipeline.errors import CheckFailed
from pipeline.lineage import sending, versions
from pipeline.lineage.graft import Step, act
from pipeline.lineage.listings import Listings
from pipeline.place import Place
from pipeline.zfs import Zfs
from tests.test_deltas import pool, shell


@dataclass
class Tiny:
    """Trees of some files in a pool of their own: a candidate, and a golden line."""

    pool: str
    place: Place
    listings: Listings
    zfs: Zfs = field(default_factory=Zfs)

    @property
    def golden(self) -> str:
        return f"{self.pool}/golden"

    def seal(self, text: str, *, compression: str = "zstd") -> str:
        """A candidate whose files say `text`, on the common base; what is there already makes way for it."""
        base = f"{self.pool}/base"
        if not self.zfs.exists(base):
            self.zfs.create(base, properties={"mountpoint": "legacy"}, marks={"owner": "goldspawn"})
            with self.zfs.mounted(base, self.place.mountpoint(base)) as root:
                (root / "same").write_bytes(os.urandom(300_000))
                (root / "same").chmod(0o755)
            self.zfs.snapshot(f"{base}@tree")
        work = f"{self.pool}/work"
        self.zfs.destroy(work)
        self.zfs.clone(f"{base}@tree", work, properties={"compression": compression, "mountpoint": "legacy"})
        with self.zfs.mounted(work, self.place.mountpoint(work)) as root:
            for number in range(5):
                (root / f"{text[:1]}{number}").write_text(text)
            (root / "text").write_text(text)
        marks = {"stage": "candidate", "inputs": text, "made": "1", "cycles": "{}"}
        self.zfs.snapshot(f"{work}@candidate", marks=marks)
        return f"{work}@candidate"

    def advance(self, candidate: str) -> str:
        return versions.advance(self.zfs, self.place, candidate, self.golden, keep=1, listings=self.listings)

    def text(self, dataset: str) -> str:
        """What the tree of a dataset or snapshot says; all of its files say the same."""
        with self.zfs.mounted(dataset, self.place.mountpoint(f"look+{dataset}"), readonly=True) as root:
            said = {path.name: path.read_text() for path in root.iterdir() if path.name != "same"}
            assert len(said) == 6
            assert len(set(said.values())) == 1
            return said["text"]

    def versions(self) -> list[str]:
        return [point.name.removeprefix(self.golden) for point in sending.points(self.zfs, self.golden)]


@pytest.fixture(scope="module")
def tiny(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """Trees of some files, in a pool of their own."""
    folder = tmp_path_factory.mktemp("tiny")
    with pool(folder) as name:
        yield Tiny(name, place, Listings(folder / "listings"))


@pytest.fixture
def line(tiny: Tiny) -> Iterator[Tiny]:
    """The same, with a golden line of one version that says `one`."""
    version = tiny.advance(tiny.seal("one"))
    with tiny.zfs.mounted(version, tiny.place.mountpoint(version), readonly=True) as root:
        tiny.listings.keep(tiny.zfs.get(version, "guid"), walk.entries(root))
    yield tiny
    tiny.zfs.destroy(tiny.golden)


def test_a_version_has_all_marks_of_its_candidate(line: Tiny) -> None:
    before = line.versions()
    version = line.advance(line.seal("two"))
    told = line.zfs.marks(version)
    with line.zfs.mounted(version, line.place.mountpoint(version)) as root:
        digest = str(tree.digest(root))
    assert told == {"stage": "candidate", "inputs": "two", "made": "1", "cycles": "{}", "tree": digest}
    assert line.versions() == [before[0].replace("@", "#"), version.removeprefix(line.golden)]
    assert line.advance(version) == version, "what is the newest version already is not grafted again"


def test_what_is_as_it_was_before_is_not_read_again(line: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    contents = walk._contents

    def reading(descriptor: int, size: int) -> tuple[int, str]:
        read.append(size)
        return contents(descriptor, size)

    monkeypatch.setattr(walk, "_contents", reading)
    for text in ("two", "three"):
        version = line.advance(line.seal(text))
        assert len(text) in read, "what changed is read"
    assert 300_000 not in read
    monkeypatch.undo()
    with line.zfs.mounted(version, line.place.mountpoint(version)) as root:
        assert line.zfs.marks(version)["tree"] == str(tree.digest(root))


def test_files_are_known_from_the_snapshot_on_which_a_clone_stands(line: Tiny) -> None:
    candidate, base = line.seal("two"), f"{line.pool}/base@tree"
    with line.zfs.mounted(base, line.place.mountpoint(base), readonly=True) as root:
        line.listings.keep(line.zfs.get(base, "guid"), walk.entries(root))
    known = walk.known_by(line.listings.below(line.zfs, candidate))
    assert {entry.path for entry in known.values()} == {b".", b"same"}
    with line.zfs.mounted(candidate, line.place.mountpoint(candidate), readonly=True) as root:
        listed = list(walk.entries(root, known=known))
        assert listed == list(walk.entries(root))
    assert sum((one.inode, one.changed) in known for one in listed) == 1


def test_a_version_that_something_stands_on_is_kept(line: Tiny) -> None:
    first = line.versions()[0]
    line.zfs.clone(f"{line.golden}{first}", f"{line.pool}/machine", properties={"mountpoint": "legacy"})
    try:
        line.advance(line.seal("two"))
        assert first in line.versions()
        assert line.text(f"{line.pool}/machine") == "one"
    finally:
        line.zfs.destroy(f"{line.pool}/machine")
    line.advance(line.seal("three"))
    assert first not in line.versions()
    assert first.replace("@", "#") in line.versions()


def test_an_earlier_version_can_become_the_newest_again(line: Tiny) -> None:
    first = f"{line.golden}{line.versions()[0]}"
    with line.zfs.held(first, "test"):
        line.advance(line.seal("two"))
        assert line.text(line.advance(first)) == "one"


@pytest.mark.parametrize("file", ["text", "same"], ids=["of a file that changed", "of a file that nobody touched"])
def test_a_graft_that_is_not_the_clean_tree_is_refused(file: str, line: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate, before = line.seal("two"), line.versions()

    def tamper(steps: Sequence[Step], clean: Path, onto: Path) -> None:
        act(steps, clean, onto)
        status = (onto / file).stat()
        with (onto / file).open("r+b") as handle:
            handle.write(b"X")
        os.utime(onto / file, ns=(status.st_atime_ns, status.st_mtime_ns))

    monkeypatch.setattr(versions, "act", tamper)
    with pytest.raises(CheckFailed, match=r"@\d{8}T\d{6}Z is not the tree of .*@candidate: its digest is "):
        line.advance(candidate)
    assert line.versions() == before
    assert line.text(line.golden) == "one", "golden is what it was before"
    monkeypatch.undo()
    assert line.text(line.advance(candidate)) == "two"


def die(*arguments: object, **options: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def half(steps: Sequence[Step], clean: Path, onto: Path) -> None:
    act(steps[: len(steps) // 2], clean, onto)
    die()


KILLS: dict[str, tuple[object, str, Callable[..., object]]] = {
    "in the middle of the graft": (versions, "act", half),
    "before the graft is compared": (versions, "_compare", die),
    "before it counts as a version": (Zfs, "mark", die),
    "before the last version is a bookmark": (sending, "bookmark", die),
    "before the last version is let go": (Zfs, "destroy", die),
}
"""When a run is killed, and in place of which function."""


@pytest.mark.parametrize("when", KILLS)
def test_after_a_kill_the_next_run_goes_on(when: str, line: Tiny) -> None:
    candidate, (first,) = line.seal("two"), line.versions()
    pid = os.fork()
    if pid == 0:
        setattr(*KILLS[when])
        try:
            line.advance(candidate)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    sealed = [one for one in line.zfs.entries(line.golden) if one.properties.get("stage") == "candidate"]
    assert len(sealed) == (2 if "the last version is" in when else 1), "only what was compared counts as a version"
    # What the next run starts from: a version of the same inputs if there is one, else the candidate.
    newest = line.advance(sealed[1].name if len(sealed) == 2 else candidate)
    assert line.text(newest) == "two"
    assert line.versions() == [first.replace("@", "#"), newest.removeprefix(line.golden)]
    assert [one for one in Path("/proc/self/mounts").read_text().splitlines() if line.pool in one] == []


def test_another_compression_begins_a_line_of_its_own_and_says_so(line: Tiny) -> None:
    newest = line.advance(line.seal("two", compression="lz4"))
    assert line.versions() == [newest.removeprefix(line.golden)]
    assert line.zfs.marks(line.golden)["began"] == "the compression changed from zstd to lz4"


def test_an_encrypted_dataset_is_sent_raw_and_received_raw(tiny: Tiny, tmp_path: Path) -> None:
    secret, key = f"{tiny.pool}/secret", tmp_path / "key"
    key.write_text("correct horse battery staple")
    encryption = ["encryption=on", "keyformat=passphrase", f"keylocation=file://{key}", "mountpoint=legacy"]
    run(["zfs", "create", *(word for one in encryption for word in ("-o", one)), secret], timeout=120)
    with tiny.zfs.mounted(secret, tiny.place.mountpoint(secret)) as root:
        (root / "password").write_text("sesame" * 1000)
    tiny.zfs.snapshot(f"{secret}@one")
    sending.bookmark(tiny.zfs, f"{secret}@one")
    with tiny.zfs.mounted(secret, tiny.place.mountpoint(secret)) as root:
        (root / "second").write_text("open" * 1000)
    tiny.zfs.snapshot(f"{secret}@two")
    for name, origin, snapshot in (("full", None, "one"), ("delta", f"{secret}#one", "two")):
        whole = f"{secret}@{snapshot}"
        estimate = sending.estimate(tiny.zfs, whole, origin=origin)
        written = stream.write(partial(sending.send, tiny.zfs, whole, origin=origin), tmp_path / name)
        assert 0 < estimate < 4 * written.size
        assert "encryption" in written.features
        assert "raw" in stream.header((tmp_path / name).read_bytes()).flags
        assert b"sesame" not in (tmp_path / name).read_bytes()
    copy = f"{tiny.pool}/copy"
    shell(f"zfs recv -u -o mountpoint=legacy {copy} < full && zfs recv -u {copy} < delta", tmp_path)
    assert tiny.zfs.get(copy, "keystatus") == "unavailable", "the key did not travel"
    shell(f"zfs load-key -L file://{key} {copy}", tmp_path)
    with tiny.zfs.mounted(copy, tiny.place.mountpoint(copy), readonly=True) as root:
        assert (root / "second").read_text() == "open" * 1000
