"""Which stage broke a machine: clones of the snapshots that its stages left are booted, the lowest first.

A candidate that does not boot healthily stands on layers which may or may not do so; the first that does not names the
stage. A throw-away clone each, as everywhere: what is looked at stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline import throwaway
from pipeline.booting import machine_of
from pipeline.build import Build
from pipeline.errors import CheckFailed
from pipeline.machine import verified
from pipeline.network import Segment
from pipeline.throwaway import machine_name
from pipeline.workspace import Workspace


def chain(build: Build, snapshot: str) -> list[tuple[str, str]]:
    """The snapshots that a candidate stands on, the lowest first, and it: each with the stage that it ends."""
    found: list[tuple[str, str]] = []
    while snapshot not in ("", "-"):
        marks = build.zfs.marks(snapshot)
        found.append((marks.get("stage", "").replace("candidate", "profile"), snapshot))
        snapshot = build.zfs.get(snapshot.partition("@")[0], "origin")
    return found[::-1]


def bisect(build: Build, workspace: Workspace, segment: Segment) -> str:
    """Lines that say which stage was the first from which a machine does not boot, and how to look inside."""
    lines = ["bisect: clones of what each stage left were booted, the lowest first"]
    for stage, snapshot in chain(build, workspace.candidate):
        if snapshot == workspace.candidate:
            problem = "does not boot healthily, as said above"
        else:
            build.show(f"bisect: boots what {stage} left")
            problem = "; ".join(_boots(build, snapshot, segment))
        lines.append(f"  {stage}: {problem or 'boots, and is healthy'}")
        if problem:
            lines.append(f"the first red one is {stage}. Reopen it:")
            inside = "python -m pipeline.appliance shell -- python3" if build.place.appliance else "python"
            lines.append(f"  .venv/bin/{inside} -m pipeline.cache open {snapshot}")
            break
    return "\n".join(lines)


def _boots(build: Build, snapshot: str, segment: Segment) -> Iterator[str]:
    """What is wrong with a machine made of a snapshot, in one line; nothing if it is healthy."""
    name = machine_name(build.image.name)
    with throwaway.clone(snapshot, f"{name}.bisect", build.place, build.zfs) as directory:
        settings = verified(build.image, segment)
        machine = machine_of(build, name, directory, settings, segment)
        try:
            machine.start()
            machine.judge()
        except CheckFailed as error:
            yield error.message.splitlines()[0]
        finally:
            machine.stop()
