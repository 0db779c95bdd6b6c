"""What reuse saves: unchanged builds, and one with a file changed, against a cold one, in one run in the same place.

Run where there is ZFS and systemd, as root, from the repository:

    python3 benchmarks/reuse.py                on such a host
    python -m pipeline.appliance shell -- python3 "$PWD/benchmarks/reuse.py"      elsewhere

Cold is `--rebuild` of an image that stands on no other: bootstrap, packages and all, in this very place. It is web1, a
small one with many tests, or with `--image benchmarks/builder1` one that has more to build and less to verify.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
DATASET = "goldspawn/benchmark"


def session(folder: Path, image: str, *options: str) -> tuple[float, float]:
    """Seconds that a session of one image takes, and those of its stages alone (without pytest's own start)."""
    argv = [sys.executable, "-m", "pytest", "-p", "pipeline.plugin", "-p", "stages", "-p", "no:cacheprovider", "-q",
            f"--images={folder / 'images'}", f"--artifacts={folder / 'artifacts'}", "--where=native",
            f"--dataset={DATASET}", f"--image={image}", *options]  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GOLDSPAWN_")}
    env = {**inherited, "PYTHONPATH": str(HOME), "PYTHONPYCACHEPREFIX": str(folder / "pycache")}
    started = time.monotonic()
    done = subprocess.run(argv, cwd=folder / "images", env=env, capture_output=True, text=True)
    seconds = time.monotonic() - started
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return seconds, sum(float(row) for row in re.findall(r"^  \w+ +([\d.]+) s", done.stdout, re.M))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, default=HOME / "tests/images/web1", help="its folder (default: web1)")
    options = parser.parse_args()
    subprocess.run(["zfs", "create", "-p", "-o", "mountpoint=none", DATASET], check=True)
    try:
        measure(options.image.resolve())
    finally:
        subprocess.run(["zfs", "destroy", "-r", DATASET], check=True)


def measure(source: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="goldspawn-reuse-", dir="/var/tmp") as made:
        folder, name = Path(made), source.name
        image = folder / "images" / name
        shutil.copytree(source, image)
        session(folder, name, "--rebuild", "-k", "dataset")  # byte code and pool are there for all alike
        rows = {"cold": session(folder, name, "--rebuild")}
        rows["unchanged, not booted again"] = session(folder, name)
        rows["unchanged, verified (--reverify)"] = session(folder, name, "--reverify")
        motd = image / "root/etc/motd"
        motd.parent.mkdir(parents=True, exist_ok=True)
        motd.write_text("changed\n")
        rows["a file changed, verified"] = session(folder, name)
        motd.write_text("changed again\n")
        rows["a file changed, profile alone (-k profile)"] = session(folder, name, "-k", "profile")
        whole, stages = rows["cold"]
        print(f"{'':44} {'session':>9} {'of cold':>8} {'stages':>9} {'of cold':>8}")
        for row, (seconds, inside) in rows.items():
            print(f"{row:44} {seconds:7.1f} s {seconds / whole:8.1%} {inside:7.1f} s {inside / stages:8.1%}")


if __name__ == "__main__":
    main()
