"""How much faster four images are built by two workers than by one, side by side in one run in the same place.

Run where there is ZFS and systemd, as root, from the repository:

    python3 benchmarks/parallel.py                on such a host
    python -m pipeline.appliance shell -- python3 "$PWD/benchmarks/parallel.py"      elsewhere

Each image has packages of its own, so that no two share a layer but the bootstrap, which is made before, in a session
of its own that fetches all packages as well. The sessions that are measured install, boot, verify and export all
images, none of which is there when they begin. They take turns, that of two workers first, so that the other has every
advantage of warm caches; what is compared is the time from the first stage's beginning to the last one's end.
`--small` has a small package for each image instead of a server's: then the machines' boots are most of the work.

The aim is 1.6 on two cores that are free: what two loops gain that share nothing is printed after each, and where that
is far from 2, others are at work here. So is how many processors were busy: where one worker alone keeps B of N busy,
no number of workers gains more than N/B.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
DATASET = "goldspawn/benchmark-parallel"
SMALL = (("ed",), ("bc",), ("m4",), ("time",))
"""Packages of a few files that no Debian has by itself, for one image each: the machine's boot is most of its build."""

SERVERS = (
    ("build-essential", "git"),
    ("nginx", "php-fpm", "php-curl", "php-xml"),
    ("postfix", "dovecot-imapd", "dovecot-lmtpd", "opendkim"),
    ("mariadb-server", "redis-server"),
)
"""What machines are built for: to compile, to serve pages, mail and data."""

IMAGE = """
[bootstrap]
suite = "trixie"
[profile]
packages = [{packages}]
"""
TEST = "def test_it_runs(machine): assert machine.service('dbus').is_running\n"


@dataclass
class Took:
    """What a session took: `seconds` of its stages, and the `processors` that it kept busy on average."""

    seconds: float
    processors: float


def busy() -> float:
    """Seconds for which this machine's processors have been busy since it booted, added up (proc_stat(5))."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    return sum((user, nice, system, *rest)) / os.sysconf("SC_CLK_TCK")


def session(folder: Path, name: str, *options: str) -> Took:
    """Runs a session; leaves its output and its timeline in `folder`/`name`."""
    artifacts = folder / name
    artifacts.mkdir(parents=True)
    argv = [sys.executable, "-m", "pytest", "-p", "pipeline.plugin", "-p", "stages", "-p", "no:cacheprovider", "-v",
            f"--images={folder / 'images'}", f"--artifacts={artifacts}", "--where=native", f"--dataset={DATASET}",
            "--max-age=24", *options]  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GOLDSPAWN_")}
    env = {**inherited, "PYTHONPATH": str(HOME), "PYTHONPYCACHEPREFIX": str(folder / "pycache")}
    env["GOLDSPAWN_CACHE"] = str(folder / "cache")
    before, began = busy(), time.monotonic()
    with (artifacts / "session.log").open("w") as out:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder / "images", env=env)
    processors = (busy() - before) / (time.monotonic() - began)
    said = (artifacts / "session.log").read_text()
    if done.returncode != 0:
        sys.exit(said)
    assert "REUSED" not in said, f"{name}: an image was there already, and was not built"
    found = re.search(r'data-seconds="([\d.]+)"', (artifacts / "timeline.svg").read_text())
    assert found, f"{artifacts}/timeline.svg does not say how long it took"
    return Took(float(found[1]), processors)


def attainable() -> float:
    """How much faster two busy loops end side by side than one after the other, just now."""
    loop = [sys.executable, "-c", "for number in range(20_000_000): pass"]

    def both(at_once: bool) -> float:
        began = time.monotonic()
        first = subprocess.Popen(loop)
        if not at_once:
            first.wait()
        subprocess.run(loop, check=True)
        first.wait()
        return time.monotonic() - began

    return both(False) / both(True)


def destroy(dataset: str) -> None:
    """Destroys a dataset with all below it; a machine that has just stopped may keep it busy for some seconds."""
    again = f"for try in 1 2 3 4 5 6; do zfs destroy -r {dataset} && exit; sleep 2; done; exit 1"
    subprocess.run(["sh", "-c", again], check=True)


def forget() -> None:
    """Destroys all images, and all layers but the bootstrap, so that the next session begins where the last one did."""
    argv = ["zfs", "list", "-Hr", "-d1", "-t", "filesystem", "-o", "name,origin", f"{DATASET}/bootstrap"]
    rows = [line.split("\t") for line in subprocess.check_output(argv, text=True).splitlines()]
    images: list[str] = []
    for kind in ("golden", "work"):
        listed = subprocess.check_output(["zfs", "list", "-Hr", "-d1", "-o", "name", f"{DATASET}/{kind}"], text=True)
        images += listed.split()[1:]
    for name in (*images, *(name for name, origin in rows if origin != "-")):
        destroy(name)


def measure(folder: Path, rounds: int) -> None:
    session(folder, "before", "-n2", "-k", "profile")
    forget()
    took: dict[int, list[Took]] = {1: [], 2: []}
    for number in range(rounds):
        for workers in (2, 1) if number % 2 == 0 else (1, 2):
            one = session(folder, f"{number + 1}-n{workers}", f"-n{workers}")
            took[workers].append(one)
            kept = f"{one.processors:.2f} of {os.cpu_count()} processors busy"
            print(f"-n {workers}: {one.seconds:.1f} s, {kept} (two loops: {attainable():.2f})", flush=True)
            forget()
    alone, both = (sum(one.seconds for one in took[workers]) for workers in (1, 2))
    print(f"ratio {alone / both:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="images of one small package each")
    parser.add_argument("--rounds", type=int, default=1, help="how often both are measured (default: 1)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goldspawn-parallel-", dir="/var/tmp") as made:
        folder = Path(made)
        for number, packages in enumerate(SMALL if options.small else SERVERS, 1):
            image = folder / "images" / f"image{number}"
            image.mkdir(parents=True)
            (image / "image.toml").write_text(IMAGE.format(packages=", ".join(f'"{name}"' for name in packages)))
            (image / f"test_image{number}.py").write_text(TEST)
        subprocess.run(["zfs", "create", "-p", "-o", "mountpoint=none", DATASET], check=True)
        try:
            measure(folder, options.rounds)
        finally:
            destroy(DATASET)


if __name__ == "__main__":
    main()
