"""The throughput of an export against `zfs send > file`, side by side; run it as root where builds run.

    python -m pipeline.appliance shell -- .venv/bin/python benchmarks/export.py artifacts
    python benchmarks/export.py artifacts --snapshot tank/goldspawn/web1@golden

Each round sends the same snapshot into the folder in three ways: `zfs send -Lce > file` as a script would do it,
the same through `dd` in blocks of 1 MiB, and `pipeline.artifact.stream.write`, which also makes the SHA-256 and waits
until the file is on the disk (the others do not). The ratio is that of the medians; the aim is 0.9 at least.
Without a snapshot it makes one, of about 200 MB of this machine's own files, in a pool of its own that it destroys.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.artifact import stream, tree
from pipeline.artifact.room import size

POOL = "goldspawn-benchmark"
LIMIT = 200 << 20


def shell(command: str) -> float:
    """Runs a command line; returns how long it took, in seconds."""
    begun = time.monotonic()
    subprocess.run(["sh", "-ec", command], check=True)
    return time.monotonic() - begun


@contextlib.contextmanager
def sample() -> Iterator[str]:
    """Yields a snapshot of about 200 MB of real files in a pool of its own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        shell(f"truncate -s 2G {folder}/pool; zpool create -O compression=zstd -m {folder}/mnt {POOL} {folder}/pool")
        try:
            copied = 0
            for path in sorted(Path("/usr").rglob("*")):
                if path.is_file() and not path.is_symlink() and copied < LIMIT:
                    target = Path(folder, "mnt", *path.parts[1:])
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(path.read_bytes())
                    copied += path.stat().st_size
            shell(f"zfs snapshot {POOL}@sample")
            begun = time.monotonic()
            digest = tree.digest(Path(folder, "mnt"))
            seconds = time.monotonic() - begun
            print(f"tree digest: {digest.entries} entries, {size(digest.bytes)} in {seconds:.1f} s")
            yield f"{POOL}@sample"
        finally:
            shell(f"zpool destroy {POOL}")


def send(snapshot: str, descriptor: int) -> None:
    """Sends as an export does: through libzfs_core."""
    import libzfs_core

    libzfs_core.lzc_send(snapshot.encode(), None, descriptor, ["embedded_data", "large_blocks", "compress"])


def measure(snapshot: str, folder: Path, rounds: int) -> None:
    """Prints the throughput of each way, and the ratio of ours to the script's."""
    file = folder / f".export-benchmark-{os.getpid()}"
    command = f"zfs send -Lce {shlex.quote(snapshot)}"
    took: dict[str, list[float]] = {"zfs send > file": [], "zfs send | dd": [], "stream.write": []}
    total = 0
    for _ in range(rounds):
        for way, seconds in took.items():
            file.unlink(missing_ok=True)
            if way == "zfs send > file":
                seconds.append(shell(f"{command} > {shlex.quote(str(file))}"))
            elif way == "zfs send | dd":
                seconds.append(shell(f"{command} | dd of={shlex.quote(str(file))} bs=1M iflag=fullblock status=none"))
            else:
                written = stream.write(lambda descriptor: send(snapshot, descriptor), file)
                total = written.size
                seconds.append(written.seconds)
    file.unlink(missing_ok=True)
    rates = {way: total / statistics.median(seconds) for way, seconds in took.items()}
    for way, seconds in took.items():
        each = ", ".join(f"{one:.2f}" for one in seconds)
        print(f"{way:<16} {size(int(rates[way]))}/s  ({size(total)} in {each} s)")
    for other in ("zfs send > file", "zfs send | dd"):
        print(f"ratio stream.write / {other}: {rates['stream.write'] / rates[other]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write: a folder that is shared with the appliance, say")
    parser.add_argument("--snapshot", help="what to send (default: a sample made for it)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with contextlib.nullcontext(options.snapshot) if options.snapshot else sample() as snapshot:
        measure(snapshot, options.folder, options.rounds)


if __name__ == "__main__":
    main()
