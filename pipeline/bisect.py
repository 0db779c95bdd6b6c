"""Which stage broke a machine: clones of the snapshots that its stages left are booted, the last one first.

A candidate that does not boot healthily, or of whose machine a check failed, stands on layers which may or may not do
better. From the first that does, on the way down, the stage that came next is named. A throw-away clone each, as
everywhere: what is looked at stays as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from pipeline.booting import another
from pipeline.build import Build
from pipeline.errors import CheckFailed
from pipeline.machine import Machine, verified
from pipeline.network import Segment
from pipeline.workspace import Workspace

Check = Callable[[Machine], None]
"""What raises `CheckFailed` for a running machine on which it is red."""


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


def bisect(build: Build, workspace: Workspace, segment: Segment | None, check: Check | None = None) -> str:
    """Lines that say with which stage a machine ceased to pass a check, and how to look inside of what that left.

    Without a check it need only boot and be healthy, as with one.
    """
    lines = ["bisect: clones of what the stages left were booted, the last one first"]
    good = "boots, and is healthy" + ("" if check is None else ", and passes that")
    red = ("profile", workspace.candidate)
    for stage, snapshot in chain(build, workspace.candidate):
        if snapshot == workspace.candidate:
            problem = "red, as said above"
        elif stage == "bootstrap" and not build.image.bootstrap.whole:
            lines.append(f"  {stage}: has no system yet")
            break
        else:
            build.show(f"bisect: boots what {stage} left")
            problem = "; ".join(_problems(build, snapshot, segment, check))
        lines.append(f"  {stage}: {problem or good}")
        if not problem:
            break
        red = stage, snapshot
    lines.append(f"the first red one is {red[0]}. Reopen it:")
    inside = "python -m pipeline.appliance shell -- python3" if build.place.appliance else "python"
    lines.append(f"  .venv/bin/{inside} -m pipeline.cache open {red[1]}")
    return "\n".join(lines)


@contextlib.contextmanager
def bisected(build: Build, workspace: Workspace, segment: Segment | None, check: Check | None = None) -> Iterator[None]:
    """Where the block fails with `CheckFailed`, and `--bisect` says so, its message has what `bisect` tells as well."""
    try:
        yield
    except CheckFailed as error:
        if build.wishes.bisect:
            error.message = f"{error.message}\n{bisect(build, workspace, segment, check)}"
        raise


def _problems(build: Build, snapshot: str, segment: Segment | None, check: Check | None) -> Iterator[str]:
    """What is wrong with a machine made of a snapshot, in one line; nothing if it is healthy and passes the check."""
    with another(build, snapshot, verified(build.image, segment), segment) as machine:
        try:
            machine.start()
            machine.judge()
            if check is not None:
                check(machine)
        except CheckFailed as error:
            yield error.message.splitlines()[0]
