"""The cost of planning: reading a report of emerge and choosing the breaks, per package of the tree.

    .venv/bin/python benchmarks/planning.py [OUT ERR]...

Generated trees of 100, 300 and 1,000 packages, one of fifteen packages in a ring, each written as emerge would print it
and read back; the recorded reports of tests/portage/data; and reports named on the command line, as pairs of files with
the standard output and standard error of `emerge -p --debug --circular-deps-report=json …`.
"""

from __future__ import annotations

import itertools
import random
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.portage import make, read
from pipeline.portage.report import MARK

ROUNDS = 5
DATA = Path(__file__).resolve().parent.parent / "tests/portage/data"


def generated(size: int, *, seed: int = 1) -> tuple[str, str]:
    """A tree of packages that need earlier ones, and size / 15 rings: what emerge would print, (stdout, stderr)."""
    dice = random.Random(seed)
    needs: dict[int, set[int]] = {one: set() for one in range(size)}
    for one in range(1, size):
        needs[one] |= {dice.randrange(one) for _ in range(3)}
    for _ in range(size // 15):
        ring = sorted(dice.sample(range(size), dice.randint(2, 6)))
        needs[ring[0]].add(ring[-1])
        for low, high in itertools.pairwise(ring):
            needs[high].add(low)

    def node(one: int) -> str:
        return f"(app-misc/p{one}-1:0/0::x, ebuild scheduled for merge to '/t/')"

    lines = []
    for one, wanted in needs.items():
        lines.append(f"{node(one)} {'depends on' if wanted else '(no children)'}")
        lines += [f"  {node(other)} (buildtime)" for other in sorted(wanted)]
    graph = "\n".join(lines)
    return "", f"digraph:\n\n{graph}\n\n{graph}\n\n * {MARK}\n"


def measure(name: str, stdout: str, stderr: str) -> None:
    reading, planning = [], []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        report = read(stdout, stderr)
        read_at = time.perf_counter()
        plan = make(report)
        reading.append(read_at - begun)
        planning.append(time.perf_counter() - read_at)
    size = len(report.graph.packages)
    both = statistics.median(reading) + statistics.median(planning)
    print(
        f"{name:28} {size:5} packages {plan.cycles:5} cycles {len(plan.breaks):4} breaks"
        f"{' (exact)' if plan.exact else ' (near) '}  read {statistics.median(reading) * 1e3:7.1f} ms"
        f"  plan {statistics.median(planning) * 1e3:8.1f} ms  {both / max(size, 1) * 1e6:8.0f} µs a package",
        flush=True,
    )


def main() -> None:
    for size in (100, 300, 1000):
        measure(f"generated, {size}", *generated(size))
    for folder in sorted(DATA.iterdir()):
        form = "json-debug" if (folder / "json-debug.out").exists() else "debug"
        measure(f"Portage {folder.name}", (folder / f"{form}.out").read_text(), (folder / f"{form}.err").read_text())
    names = sys.argv[1:]
    for out, err in zip(names[::2], names[1::2], strict=True):
        measure(Path(out).name, Path(out).read_text(), Path(err).read_text())


if __name__ == "__main__":
    main()
