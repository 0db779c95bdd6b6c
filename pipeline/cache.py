"""The cache of a place: listed, pruned, and a snapshot of it opened to look inside.

What goes and what is kept is decided by `prune`; here it is read from ZFS and done.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline import throwaway
from pipeline.command import SILENT, BuildLog
from pipeline.errors import GoldspawnError, InputError
from pipeline.locks import is_at_work
from pipeline.place import Place, open_place
from pipeline.reuse.prune import Cached, Limits, prune, table
from pipeline.zfs import Zfs, ZfsError


def cached(place: Place, zfs: Zfs) -> list[Cached]:
    """All that is cached in a place, and the golden datasets that stand on it."""
    layout = place.layout
    kinds = {layout.bootstraps: "", layout.builders: "builder", layout.work: "candidate", layout.golden: "golden"}
    rows = zfs.usage(layout.base)
    marks = {entry.name: entry.properties for entry in zfs.entries(layout.base)}
    found = []
    for row in rows:
        parent = row.name.rpartition("/")[0]
        if "@" in row.name or parent not in kinds:
            continue
        snapshots = [one for one in rows if one.name.startswith(f"{row.name}@")]
        stages = [stage for one in snapshots if (stage := marks.get(one.name, {}).get("stage"))]
        stage = kinds[parent] or (stages[-1] if stages else "")
        if parent == layout.work and not stages:
            stage = ""
        on_it = tuple(sorted({clone for one in snapshots for clone in one.clones}))
        held = any(one.holds for one in snapshots) or is_at_work(place, row.name)
        below = row.origin.partition("@")[0]
        found.append(Cached(row.name, stage, row.created, row.used, below, on_it, held))
    return found


def clear(place: Place, limits: Limits, log: BuildLog = SILENT) -> list[str]:
    """Prunes the cache of a place; returns what went, as lines. What turns out to be in use just then is left."""
    zfs = Zfs(log)
    told = []
    for entry, why in prune(cached(place, zfs), limits, now=time.time()):
        with contextlib.suppress(ZfsError):
            zfs.destroy(entry.dataset)
            told.append(f"pruned {entry.dataset}: {why}")
            log.line(told[-1])
    return told


@contextlib.contextmanager
def opened(place: Place, snapshot: str, zfs: Zfs) -> Iterator[Path]:
    """A throw-away clone of a snapshot, mounted. Raises `InputError` for one that there is not."""
    if "@" not in snapshot or not zfs.exists(snapshot):
        raise InputError(
            f"{snapshot}: there is no such snapshot", hint="pytest --cache-info lists those that there are"
        )
    with throwaway.clone(snapshot, f"{throwaway.OPENED}{os.getpid()}", place, zfs) as tree:
        yield tree


def main(arguments: list[str] | None = None) -> int:
    """`python -m pipeline.cache`, in a native place or inside the appliance. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.cache", description=__doc__)
    parser.add_argument("--dataset", default=None)
    parser.add_argument("--days", type=float, default=Limits.days)
    parser.add_argument("--number", type=int, default=Limits.number)
    parser.add_argument("--size", type=float, default=Limits.size)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("info", help="what is there, how large, and why it is kept")
    verbs.add_parser("prune", help="destroy what is beyond the limits")
    opening = verbs.add_parser("open", help="a shell in a throw-away clone of a snapshot")
    opening.add_argument("--boot", action="store_true", help="boot it, on this terminal")
    opening.add_argument("snapshot")
    chosen = parser.parse_args(arguments)
    limits = Limits(chosen.days, chosen.number, chosen.size)
    try:
        place = open_place(chosen.dataset)
        if chosen.verb == "info":
            for line in table(cached(place, Zfs()), limits, now=time.time(), base=place.layout.base):
                print(line)
        elif chosen.verb == "prune":
            print("\n".join(clear(place, limits)) or "nothing is beyond the limits")
        else:
            with opened(place, chosen.snapshot, Zfs()) as tree:
                argv = ["systemd-nspawn", "--quiet", "--settings=no", f"--directory={tree}"]
                return subprocess.run([*argv, *(["--boot", "--private-network"] if chosen.boot else [])]).returncode
    except GoldspawnError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
