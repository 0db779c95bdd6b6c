"""What ten images on one base cost against one cold build, in one run in the same place.

Run where there is ZFS and systemd, as root, from the repository:

    python3 benchmarks/layers.py                on such a host
    python -m pipeline.appliance shell -- python3 "$PWD/benchmarks/layers.py"      elsewhere

The cold build is of one image with bootstrap, packages, a file of its own, boot, all machinectl checks and a test. Then
everything is forgotten, and a base with the same packages and ten images on it, each with such a file and such a test,
are built, verified and exported in one session (`-n 2`, or `--workers`). The aim is 2.5 times the cold build at most.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
DATASET = "goldspawn/benchmark-layers"
BASE = """
[bootstrap]
suite = "trixie"
[profile]
packages = ["nginx", "curl"]
"""
TEST = "def test_it_serves(machine): assert '{name}' in machine.check_output('curl -s http://localhost/')\n"


def session(folder: Path, *options: str) -> float:
    """Seconds that a session takes in a dataset and with a cache in which there is nothing yet."""
    argv = [sys.executable, "-m", "pytest", "-p", "pipeline.plugin", "-p", "stages", "-p", "no:cacheprovider", "-q",
            f"--images={folder / 'images'}", f"--artifacts={folder / 'artifacts'}", "--where=native",
            f"--dataset={DATASET}", *options]  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GOLDSPAWN_")}
    env = {**inherited, "PYTHONPATH": str(HOME), "PYTHONPYCACHEPREFIX": str(folder / "pycache")}
    env["GOLDSPAWN_CACHE"] = tempfile.mkdtemp(dir=folder)
    subprocess.run(["zfs", "create", "-p", "-o", "mountpoint=none", DATASET], check=True)
    try:
        started = time.monotonic()
        done = subprocess.run(argv, cwd=folder / "images", env=env, capture_output=True, text=True)
        seconds = time.monotonic() - started
    finally:
        again = f"for try in 1 2 3 4 5 6; do zfs destroy -r {DATASET} && exit; sleep 2; done; exit 1"
        subprocess.run(["sh", "-c", again], check=True)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return seconds


def image(images: Path, name: str, definition: str) -> None:
    """An image with a page of its own, and a test that it is served."""
    page = images / name / "root/var/www/html/index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f"this is {name}\n")
    (images / name / "image.toml").write_text(definition)
    (images / name / f"test_{name}.py").write_text(TEST.format(name=name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldspawn-layers-") as made:
        folder = Path(made)
        image(folder / "images", "base", BASE)
        for number in range(1, options.images + 1):
            image(folder / "images", f"on{number:02}", 'from = "base"\n')
        cold = session(folder, "--image=base")
        print(f"one cold build: {cold:.1f} s", flush=True)
        whole = session(folder, f"-n{options.workers}")
    print(f"a base and {options.images} images on it, -n {options.workers}: {whole:.1f} s, ratio {whole / cold:.2f}")


if __name__ == "__main__":
    main()
