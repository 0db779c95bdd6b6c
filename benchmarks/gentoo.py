"""A Gentoo root merged by goldspawn, against the same emerge commands typed by hand by somebody who knows the cycle.

    .venv/bin/python benchmarks/gentoo.py [ROUNDS]

Both merge the sets of gentoo1 in a builder root of their own, from source, with sources fetched before, in one run on
one machine, taking turns. Prints the seconds of each and their ratio (aim: at most 1.05). By hand there is neither a
search for the cycle nor a check of the result.
"""

from __future__ import annotations

import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOME = Path(__file__).parents[1]
sys.path.insert(0, str(HOME))

from pipeline.appliance import namespace  # noqa: E402
from pipeline.command import SILENT  # noqa: E402
from pipeline.gentoo.builder import BuilderRoot  # noqa: E402
from pipeline.gentoo.enter import chroot  # noqa: E402
from pipeline.gentoo.folders import copied  # noqa: E402
from pipeline.gentoo.merge import merge_sets  # noqa: E402
from pipeline.gentoo.store import Store  # noqa: E402
from pipeline.image import load  # noqa: E402
from pipeline.portage import Emerge  # noqa: E402
from pipeline.tarball import BOOTSTRAP, BUILDER, make, unpack  # noqa: E402
from tests.gentoo import builder, repository  # noqa: E402

IMAGE = HOME / "tests/images/gentoo1"


def by_hand(emerge: Emerge, sets: tuple[str, ...]) -> None:
    """What a person types who has met this cycle before."""
    emerge.merge("--nodeps", "--oneshot", "--buildpkg=n", "media-libs/shaper")
    emerge.merge(*sets)
    emerge.merge("--oneshot", "--usepkg=n", "media-libs/shaper")
    emerge.merge("--depclean", "--with-bdeps=n")


def timed(who: str, work: Path, tars: tuple[Path, Path]) -> float:
    """Seconds that one of the two takes, from an unpacked builder and an empty PKGDIR."""
    place = work / who
    tree, root = place / "tree", place / "builder"
    for folder, tar in ((tree, tars[0]), (root, tars[1])):
        folder.mkdir(parents=True)
        unpack(tar, folder, log=SILENT, timeout=300)
    store = Store(place / "store")
    shutil.copytree(work / "distfiles", store.distfiles, dirs_exist_ok=True)
    workshop = BuilderRoot(load(IMAGE), store, SILENT, 10.0, math.inf, root, chroot, copied)
    if who == "fetch":
        with workshop.target(tree) as (emerge, _):
            emerge.merge("--fetchonly", "--nodeps", "@system")
        shutil.copytree(store.distfiles, work / "distfiles", dirs_exist_ok=True)
        shutil.rmtree(place)
        return 0.0
    started = time.monotonic()
    if who == "by hand":
        with workshop.target(tree) as (emerge, _):
            by_hand(emerge, workshop.settings.sets)
    else:
        merge_sets(workshop, tree)
    seconds = time.monotonic() - started
    shutil.rmtree(place)
    return seconds


def inside(bootstrap: str, root: str, rounds: str) -> None:
    """The part that is root of namespaces."""
    with tempfile.TemporaryDirectory(prefix="goldspawn-benchmark-") as folder:
        work = Path(folder)
        (work / "distfiles").mkdir()
        tars = Path(bootstrap), Path(root)
        timed("fetch", work, tars)
        taken: dict[str, list[float]] = {"by hand": [], "goldspawn": []}
        for turn in range(int(rounds)):
            for who in taken if turn % 2 == 0 else reversed(taken):
                taken[who].append(timed(who, work, tars))
                print(f"{who:10} {taken[who][-1]:6.1f} s", flush=True)
        hand, ours = (statistics.median(taken[who]) for who in ("by hand", "goldspawn"))
        print(f"median: by hand {hand:.1f} s, goldspawn {ours:.1f} s, ratio {ours / hand:.2f}")


def main() -> None:
    rounds = sys.argv[1] if len(sys.argv) > 1 else "3"
    repository.write(IMAGE / "made/tiny")
    builder.make(IMAGE / "made/builder.tar.zst")
    with tempfile.TemporaryDirectory(prefix="goldspawn-tars-") as folder:
        tars = [
            make(load(IMAGE), part, folder=Path(folder), max_age=math.inf, log=SILENT, slowness=1.0)
            for part in (BOOTSTRAP, BUILDER)
        ]
        child = [sys.executable, __file__, "--inside", *map(str, tars), rounds]
        subprocess.run(namespace.inside(child, processes=True), check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(*sys.argv[2:])
    else:
        main()
