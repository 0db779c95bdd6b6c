"""Stage 5, boot: a clone of the candidate is booted. What boots is never what ships."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from pipeline import remains
from pipeline.attend import attend
from pipeline.bisect import bisected
from pipeline.booting import machine_of
from pipeline.build import Build
from pipeline.errors import CheckFailed
from pipeline.machine import Machine, leash, verified
from pipeline.network import segment
from pipeline.plugin.verdict import Reused, verdicts
from pipeline.reuse.plan import ago
from pipeline.reuse.verified import from_mark, key
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def boot(build: Build, profile: Workspace, pytestconfig: pytest.Config) -> Iterator[Machine]:
    """A machine made of a clone of the candidate, booted, ready and healthy; gone afterwards.

    A candidate that passed all of this before, and has not changed, is not booted again: all that needs the machine
    then has its earlier result.
    """
    if not build.wishes.reverify:
        earlier = from_mark(profile.told(profile.candidate).get("verdict"), key(build.image))
        if earlier is not None and verdicts(pytestconfig).covers(build.image.name, earlier):
            build.verdict = earlier
    if build.verdict is not None:
        raise Reused(f"passed {ago(time.time() - build.verdict.time)}")
    slowness = build.place.slowness
    with profile.booting_clone() as (name, directory), segment(leash(), build.log, slowness) as own:
        settings = verified(build.image, own)
        machine = machine_of(build, name, directory, settings, own)
        try:
            with build.stage("boot"), bisected(build, profile, own):
                started = time.monotonic()
                try:
                    machine.start()
                    machine.judge()
                except CheckFailed:
                    remains.keep(machine, build.log)
                    if build.wishes.keep and machine.state().running:
                        attend(machine.name, "boot failed", shell=build.wishes.shell)
                    if build.wishes.bisect:  # it would take memory and time from those that are booted then
                        machine.stop()
                    raise
                unlike = f"; not as it ships: {'; '.join(machine.settings.unlike)}" if machine.settings.unlike else ""
                build.notes["boot"] = f"ready and healthy after {time.monotonic() - started:.1f} s{unlike}"
            yield machine
            # Where machinectl_poweroff has not done it: it was not made, or is what failed.
            if verdicts(pytestconfig).failed(build.image.name):
                remains.keep(machine, build.log)
        finally:
            machine.stop()
