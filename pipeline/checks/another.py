"""Checks that need a further machine of the same candidate, since they would spoil the one that is verified."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from pipeline.checks.subject import Subject
from pipeline.errors import CheckFailed
from pipeline.image.containers import unmapped
from pipeline.machine import machinectl
from pipeline.machine.settings import Settings


def poweroff_seconds(subject: Subject) -> None:
    """It powers off in time."""
    wanted = subject.wanted.poweroff_seconds
    assert wanted is not None
    with subject.another(subject.machine.settings) as machine:
        machine.start()
        started = time.monotonic()
        machinectl.poweroff(machine, seconds=wanted + 60)  # so that one that is late says by how much
        took = time.monotonic() - started
    if took > subject.limit(wanted):
        raise CheckFailed(
            f"it powered off in {took:.1f} s, and {subject.limit(wanted):.1f} s are allowed here",
            hint="a unit that does not stop by itself holds it up: TimeoutStopSec= of that is the limit",
        )


def unclean(subject: Subject) -> None:
    """It boots again, healthy, after it was killed: no unit of it was stopped."""
    with subject.another(subject.machine.settings) as machine:
        machine.start()
        machine.stop()  # its PID 1 is killed
        try:
            machine.start()
            machine.judge()
        except CheckFailed as error:
            raise CheckFailed(
                f"after it was killed {error.message}",
                hint="what it keeps on its disk has to be good at any moment: look at the units named above",
            ) from error


def volatile(subject: Subject) -> None:
    """It boots, healthy, with a root that forgets what is written.

    Without users of its own: to give the files of such a root to others, systemd-nspawn 257 copies them all into the
    host's /tmp ("Failed to adjust UID/GID shift of OS tree" where there is no room). A bind is not mapped then, either;
    and users of the host are given only to machines with users of their own.
    """
    settings = changed(subject.machine.settings, "Exec", {"PrivateUsers": "no"})
    settings = changed(settings, "Files", {"PrivateUsersOwnership": "off", "Volatile": "overlay", "BindUser": None})
    files = [(key, unmapped(value) if key.startswith("Bind") else value) for key, value in settings.sections["Files"]]
    written = tuple((key, unmapped(value) if key == "Bind" else value) for key, value in settings.written)
    settings = replace(settings, sections={**settings.sections, "Files": tuple(files)}, written=written)
    _boots(subject, settings, "with a root that forgets", "checks.volatile")


def read_only(subject: Subject) -> None:
    """It boots, healthy, with a root that is read-only."""
    settings = changed(subject.machine.settings, "Files", {"ReadOnly": "yes"})
    _boots(subject, settings, "with a read-only root", "checks.read_only")


def _boots(subject: Subject, settings: Settings, how: str, key: str) -> None:
    with subject.another(settings) as machine:
        try:
            machine.start()
            machine.judge()
        except CheckFailed as error:
            raise CheckFailed(
                f"{how} {error.message}",
                hint=f"where they write, nspawn.files.temporary_file_system of image.toml has room; or leave {key} out",
            ) from error


def changed(settings: Settings, section: str, directives: Mapping[str, str | None]) -> Settings:
    """The same settings with other directives in a section, and without those that are None."""
    kept = (row for row in settings.sections[section] if row[0] not in directives)
    given = ((key, value) for key, value in directives.items() if value is not None)
    return replace(settings, sections={**settings.sections, section: (*kept, *given)})
