"""What a delta costs beside the full stream: its time follows its size, not the image's. As root where builds run.

    python -m pipeline.appliance shell -- .venv/bin/python benchmarks/delta.py artifacts

Makes a golden version of about 200 MB of this machine's own files in a pool of its own, then versions with a small
change (one file of 10 kB) and with a large one (a fifth of the bytes), each grafted as an export does it. Prints for
each, in one run: the seconds of the graft with its comparison (`versions.advance`), and size and seconds of both
streams (`stream.write`, medians of the rounds), with the ratios delta/full. The pool is destroyed afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.artifact import stream, walk
from pipeline.artifact.room import size
from pipeline.command import run
from pipeline.lineage import sending, versions
from pipeline.lineage.listings import Listings
from pipeline.place import Layout, Place
from pipeline.zfs import Zfs

POOL = "goldspawn-delta-benchmark"
LIMIT = 200 << 20
GOLDEN = f"{POOL}/golden"


@contextlib.contextmanager
def sample(zfs: Zfs, place: Place) -> Iterator[list[Path]]:
    """A pool with POOL/base@tree, about 200 MB of real files; yields their names below its root."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        file = Path(folder, "pool")
        with file.open("wb") as handle:
            handle.truncate(4 << 30)
        options = ["-O", "compression=zstd", "-O", "atime=off", "-O", "mountpoint=legacy"]
        run(["zpool", "create", *options, POOL, str(file)], timeout=120)
        try:
            zfs.create(f"{POOL}/base")
            names: list[Path] = []
            copied = 0
            with zfs.mounted(f"{POOL}/base", place.mountpoint("base")) as root:
                for path in sorted(Path("/usr").rglob("*")):
                    if path.is_file() and not path.is_symlink() and copied < LIMIT:
                        target = root / path.relative_to("/")
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(path.read_bytes())
                        names.append(target.relative_to(root))
                        copied += path.stat().st_size
            zfs.snapshot(f"{POOL}/base@tree")
            yield names
        finally:
            run(["zpool", "destroy", "-f", POOL], timeout=120)


def version(zfs: Zfs, place: Place, changed: list[Path], noise: bytes, listings: Listings) -> tuple[str, float]:
    """The next golden version, with `noise` written over some files; seconds of its graft."""
    work = f"{POOL}/work"
    zfs.destroy(work)
    zfs.clone(f"{POOL}/base@tree", work)
    with zfs.mounted(work, place.mountpoint("work")) as root:
        for name in changed:
            with (root / name).open("r+b") as file:
                length = file.seek(0, os.SEEK_END)
                file.seek(0)
                file.write((noise * (length // len(noise) + 1))[:length])
    zfs.snapshot(f"{work}@candidate", marks={"stage": "candidate"})
    begun = time.monotonic()
    made = versions.advance(zfs, place, f"{work}@candidate", GOLDEN, keep=5, listings=listings)
    return made, time.monotonic() - begun


def export(zfs: Zfs, snapshot: str, folder: Path, origin: str | None, rounds: int) -> tuple[int, float]:
    """Bytes of a stream, and the median of the seconds that it takes to write it."""
    took = []
    for _ in range(rounds):
        file = folder / f".delta-benchmark-{os.getpid()}"
        written = stream.write(lambda fd: sending.send(zfs, snapshot, fd, origin=origin), file)
        took.append(written.seconds)
        file.unlink()
    return written.size, statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write: a folder that is shared with the appliance, say")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    zfs, place = Zfs(), Place(Layout(POOL))
    with sample(zfs, place) as names, tempfile.TemporaryDirectory() as listed:
        listings = Listings(Path(listed))
        first, _ = version(zfs, place, [], b"", listings)
        with zfs.mounted(first, place.mountpoint("first"), readonly=True) as root:  # as its export would
            listings.keep(zfs.get(first, "guid"), walk.entries(root))
        small = [next(name for name in names if 8_000 < Path("/", name).stat().st_size < 12_000)]
        changes = {"one file": small, "a fifth": names[::5]}
        for what, changed in changes.items():
            origin = sending.points(zfs, GOLDEN)[-1].name.replace("@", "#")
            made, seconds = version(zfs, place, changed, os.urandom(1 << 20), listings)
            bytes_full, took_full = export(zfs, made, options.folder, None, options.rounds)
            bytes_delta, took_delta = export(zfs, made, options.folder, origin, options.rounds)
            print(f"{what} changed: grafted and compared in {seconds:.1f} s")
            print(f"  full   {size(bytes_full):>10} in {took_full:6.2f} s")
            print(f"  delta  {size(bytes_delta):>10} in {took_delta:6.2f} s")
            print(f"  ratio delta/full: size {bytes_delta / bytes_full:.4f}, time {took_delta / took_full:.4f}")


if __name__ == "__main__":
    main()
