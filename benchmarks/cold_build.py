"""How long a cold build with goldspawn takes against the eight lines of shell that do the same by hand.

Run where there is ZFS and systemd, as root, from the repository:

    python3 benchmarks/cold_build.py            on such a host
    python -m pipeline.appliance shell -- python3 "$PWD/benchmarks/cold_build.py"     elsewhere

Both start from nothing, in the same place, one after the other, each with its own bootstrap and its own download of
packages: goldspawn has a cache in which there is nothing but Python's byte code. It does more in its time: it verifies
with machinectl, reboots the machine and runs the acceptance tests. So there are two ratios: of all of its time, and of
that without these checks, which is like for like (with the start of pytest, the seal, the digest of the tree and the
manifest in it). `--runs N` (default 1) repeats the pair.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATASET = "goldspawn/by-hand"
OURS = "goldspawn/cold-build"
"""Where goldspawn builds: nothing is there, so that there is no earlier version onto which it would graft."""
NAME = "by-hand"


def by_hand(folder: Path) -> float:
    """Seconds that the script takes."""
    argv = [str(HERE / "by_hand.sh"), DATASET, NAME, "trixie", str(folder / "stream"), "nginx", "curl"]
    destroy(DATASET)  # of a run that was killed
    try:
        return timed(argv, folder / "by-hand.log")
    finally:
        destroy(DATASET)
        (folder / "stream").unlink(missing_ok=True)


def destroy(dataset: str) -> None:
    """Destroys a dataset: a machine that has just stopped keeps it busy for some seconds."""
    again = f"for try in 1 2 3 4 5 6; do zfs list {dataset} || exit; zfs destroy -r {dataset} && exit; sleep 2; done"
    subprocess.run(["sh", "-c", again], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


MORE = ("machinectl_list", "machinectl_show", "machinectl_status", "machinectl_shell", "machinectl_login",
        "machinectl_reboot", "acceptance")  # fmt: skip
"""Checks that the script does not make; it powers the machine off as well."""


def goldspawn(folder: Path) -> tuple[float, float]:
    """Seconds that a session takes which reuses nothing, and those of them that `MORE` takes."""
    argv = [sys.executable, "-m", "pytest", "-p", "pipeline.plugin", "-p", "stages", "-p", "no:cacheprovider",
            "--where=native", f"--dataset={OURS}", "--rebuild", "--image=web1",
            f"--artifacts={folder / 'artifacts'}", str(HERE.parent / "tests/images")]  # fmt: skip
    destroy(OURS)
    timed([*argv, "--collect-only"], folder / "collected.log", PYTHONPYCACHEPREFIX=str(folder / "pycache"))
    subprocess.run(["zfs", "create", "-o", "mountpoint=none", OURS], check=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            known = {"GOLDSPAWN_CACHE": cache, "PYTHONPYCACHEPREFIX": str(folder / "pycache")}
            whole = timed(argv, folder / "goldspawn.log", **known)
    finally:
        destroy(OURS)
    rows = re.findall(r"^  (\w+) +([\d.]+) s", (folder / "goldspawn.log").read_text(), re.MULTILINE)
    print("  " + ", ".join(f"{stage} {seconds}" for stage, seconds in rows))
    return whole, sum(float(seconds) for stage, seconds in rows if stage in MORE)


def timed(argv: list[str], log: Path, **variables: str) -> float:
    """Runs a command with its output in a file; shows the file's end if it fails."""
    started = time.monotonic()
    env = {**os.environ, "PYTHONPATH": str(HERE.parent), **variables}
    with log.open("w") as out:
        done = subprocess.run(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=HERE.parent, env=env)
    if done.returncode != 0:
        sys.exit(f"{argv[0]} failed:\n" + "\n".join(log.read_text().splitlines()[-25:]))
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description="cold build: goldspawn against a script")
    parser.add_argument("--runs", type=int, default=1)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(1, runs + 1):
            script = by_hand(folder)
            ours, more = goldspawn(folder)
            print(
                f"run {number}: by hand {script:.1f} s, goldspawn {ours:.1f} s, ratio {ours / script:.2f}; "
                f"without {more:.1f} s of checks that the script has not: {(ours - more) / script:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
