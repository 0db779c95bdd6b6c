"""Which stage broke a machine: clones of the snapshots that its stages left are booted, the last one first.

A candidate that does not boot healthily stands on layers which may or may not do so. From the first that does, on the
way down, the stage that came next is named. A throw-away clone each, as everywhere: what is looked at stays as it is.
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
    """A candidate and the snapshots that it stands on, the lowest last: each with the stage that it ends."""
    found: list[tuple[str, str]] = []
    top = snapshot
    while snapshot not in ("", "-"):
        dataset = snapshot.partition("@")[0]
        stage = build.zfs.marks(snapshot).get("stage", "").replace("candidate", "profile")
        of_base = stage == "profile" and snapshot != top
        found.append((f"profile of {dataset.rpartition('/')[2]}" if of_base else stage, snapshot))
        snapshot = build.zfs.get(dataset, "origin")
    return found


def bisect(build: Build, workspace: Workspace, segment: Segment) -> str:
    """Lines that say with which stage a machine ceased to boot, and how to look inside of what that left."""
    lines = ["bisect: clones of what the stages left were booted, the last one first"]
    red = ("profile", workspace.candidate)
    for stage, snapshot in chain(build, workspace.candidate):
        if snapshot == workspace.candidate:
            problem = "does not boot healthily, as said above"
        elif stage == "bootstrap" and not build.image.bootstrap.whole:
            lines.append(f"  {stage}: has no system yet")
            break
        else:
            build.show(f"bisect: boots what {stage} left")
            problem = "; ".join(_boots(build, snapshot, segment))
        lines.append(f"  {stage}: {problem or 'boots, and is healthy'}")
        if not problem:
            break
        red = stage, snapshot
    lines.append(f"the first red one is {red[0]}. Reopen it:")
    inside = "python -m pipeline.appliance shell -- python3" if build.place.appliance else "python"
    lines.append(f"  .venv/bin/{inside} -m pipeline.cache open {red[1]}")
    return "\n".join(lines)


def _boots(build: Build, snapshot: str, segment: Segment) -> Iterator[str]:
    """What is wrong with a machine made of a snapshot, in one line; nothing if it is healthy."""
    name = machine_name(build.image.name)
    with throwaway.bootable(snapshot, f"{name}.bisect", build.image.boot, build.place, build.zfs) as directory:
        settings = verified(build.image, segment)
        machine = machine_of(build, name, directory, settings, segment)
        try:
            machine.start()
            machine.judge()
        except CheckFailed as error:
            yield error.message.splitlines()[0]
        finally:
            machine.stop()
