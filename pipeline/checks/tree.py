"""Checks that look at the candidate as it lies on the disk, in a clone that may be changed."""

from __future__ import annotations

from pipeline.checks.subject import Subject
from pipeline.errors import CheckFailed
from pipeline.profile import packages


def updates(subject: Subject) -> None:
    """No package has an update in the repositories that the machine itself knows."""
    with subject.clone() as tree:
        log, slowness = subject.machine.log, subject.machine.slowness
        found = packages.pending(tree, log=log, slowness=slowness, logins=subject.logins)
    if found:
        more = f"\n    and {len(found) - 20} more" if len(found) > 20 else ""
        raise CheckFailed(
            "\n".join(["packages have updates:", *(f"    {update}" for update in found[:20])]) + more,
            hint="--rebuild makes the image of what the repositories have now",
        )
