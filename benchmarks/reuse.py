"""What reuse saves: unchanged builds, and one with a file changed, against a cold one, in one run in the same place.

Run where there is ZFS and systemd, as root, from the repository:

    python3 benchmarks/reuse.py                on such a host
    python -m pipeline.appliance shell -- python3 "$PWD/benchmarks/reuse.py"      elsewhere

Cold is `--rebuild` with `--max-age 0` of an image like web1: bootstrap, packages and all, in this very place.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
NAME = "web1"
DATASET = "goldspawn/benchmark"


def session(folder: Path, *options: str) -> tuple[float, float]:
    """Seconds that a session of one image takes, and those of its stages alone (without pytest's own start)."""
    argv = [sys.executable, "-m", "pytest", "-p", "pipeline.plugin", "-p", "stages", "-p", "no:cacheprovider", "-q",
            f"--images={folder / 'images'}", f"--artifacts={folder / 'artifacts'}", "--where=native",
            f"--dataset={DATASET}", f"--image={NAME}", *options]  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GOLDSPAWN_")}
    env = {**inherited, "PYTHONPATH": str(HOME), "PYTHONPYCACHEPREFIX": str(folder / "pycache")}
    started = time.monotonic()
    done = subprocess.run(argv, cwd=folder / "images", env=env, capture_output=True, text=True)
    seconds = time.monotonic() - started
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return seconds, sum(float(row) for row in re.findall(r"^  \w+ +([\d.]+) s", done.stdout, re.M))


def main() -> None:
    subprocess.run(["zfs", "create", "-p", "-o", "mountpoint=none", DATASET], check=True)
    try:
        measure()
    finally:
        subprocess.run(["zfs", "destroy", "-r", DATASET], check=True)


def measure() -> None:
    with tempfile.TemporaryDirectory(prefix="goldspawn-reuse-") as made:
        folder = Path(made)
        image = folder / "images" / NAME
        shutil.copytree(HOME / "tests/images/web1", image)
        session(folder, "--rebuild", "-k", "dataset")  # byte code and pool are there for all alike
        rows = {"cold": session(folder, "--rebuild")}
        rows["unchanged, not booted again"] = session(folder)
        rows["unchanged, verified (--reverify)"] = session(folder, "--reverify")
        motd = image / "root/etc/motd"
        motd.write_text("changed\n")
        rows["a file changed, verified"] = session(folder)
        motd.write_text("changed again\n")
        rows["a file changed, profile alone (-k profile)"] = session(folder, "-k", "profile")
        whole, stages = rows["cold"]
        print(f"{'':44} {'session':>9} {'of cold':>8} {'stages':>9} {'of cold':>8}")
        for name, (seconds, inside) in rows.items():
            print(f"{name:44} {seconds:7.1f} s {seconds / whole:8.1%} {inside:7.1f} s {inside / stages:8.1%}")


if __name__ == "__main__":
    main()
