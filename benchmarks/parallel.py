"""How much faster four small images are built by two workers than by one, side by side in one run, from nothing.

    python benchmarks/parallel.py

Runs wherever `pytest` would build: in place, or in the appliance. Both sessions start with their own bootstrap and
build, boot, verify and export the same images; that of two workers comes first, so that the other has every advantage
of warm caches. What is compared is the time from the first stage's beginning to the last one's end. The aim is 1.6 on
two cores that are free.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
IMAGE = """
[bootstrap]
suite = "trixie"
[profile]
packages = ["ed"]
"""
TEST = "def test_it_runs(machine): assert machine.service('dbus').is_running\n"


def session(workers: int, images: Path, folder: Path) -> float:
    """Seconds that the images took; leaves the session's output and timeline in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "pytest", "-p", "pipeline.plugin", "-p", "stages", "-p", "no:cacheprovider", "-v",
            f"-n{workers}", "--max-age=0", f"--images={images}", f"--artifacts={folder}"]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    with (folder / "session.log").open("w") as out:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=images, env=env)
    if done.returncode != 0:
        sys.exit("\n".join((folder / "session.log").read_text().splitlines()[-40:]))
    return seconds(folder / "timeline.svg")


def seconds(timeline: Path) -> float:
    """How long all took, as the picture of the run has it."""
    found = re.search(r'data-seconds="([\d.]+)"', timeline.read_text())
    assert found, f"{timeline} does not say how long it took"
    return float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--keep", type=Path, help="where to leave artifacts, logs and the two timelines")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        images = Path(made, "images")
        for number in range(1, options.images + 1):
            folder = images / f"small{number}"
            folder.mkdir(parents=True)
            (folder / "image.toml").write_text(IMAGE)
            (folder / f"test_small{number}.py").write_text(TEST)
        kept = options.keep.absolute() if options.keep else Path(made)
        two = session(2, images, kept / "two")
        one = session(1, images, kept / "one")
    print(f"{options.images} images: -n 1 {one:.1f} s, -n 2 {two:.1f} s, ratio {one / two:.2f}")


if __name__ == "__main__":
    main()
