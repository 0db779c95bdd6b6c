"""The checks that every image goes through, in order: pytest collects them once for each image.toml.

A stage's check passes when its fixture does. Fixtures stand elsewhere: a module that is both a plugin and collected
would define each of them twice. Those called `check_KEY` are made where `[checks]` of the image has that key.
"""

from __future__ import annotations

from functools import partial

import pytest

from pipeline import remains
from pipeline.build import Build
from pipeline.checks import Subject, another, running, tree
from pipeline.machine import Machine
from pipeline.machine import machinectl as ctl
from pipeline.machine.timing import boot_times
from pipeline.plugin.verdict import verdicts
from pipeline.workspace import Workspace
from stages.machinectl import Verify


def dataset(dataset: Workspace) -> None:
    """The image has a place in the pool, and it is known where the build starts."""


def bootstrap(bootstrap: Workspace) -> None:
    """There is a root file system."""


def cycles(cycles: Workspace) -> None:
    """No build-dependency cycle is left."""


def profile(profile: Workspace) -> None:
    """The tree is the machine that image.toml describes, and it is sealed."""


def boot(boot: Machine) -> None:
    """A clone of the candidate boots, is ready, and is healthy."""


def machinectl_list(verify: Verify) -> None:
    """`machinectl list` has the machine."""
    verify(ctl.listed)


def machinectl_show(verify: Verify) -> None:
    """`machinectl show` says that it runs, and from where."""
    verify(ctl.shown)


def machinectl_status(verify: Verify) -> None:
    """`machinectl status` knows which operating system it is."""
    verify(ctl.status)


def machinectl_shell(verify: Verify) -> None:
    """`machinectl shell` gives a shell that answers."""
    verify(ctl.shell)


def machinectl_login(verify: Verify) -> None:
    """`machinectl login` comes to a login prompt."""
    verify(ctl.login)


def machinectl_reboot(verify: Verify) -> None:
    """`machinectl reboot` is obeyed, and the machine is healthy again."""
    verify(ctl.reboot)


def check_journal(subject: Subject) -> None:
    """The journal has no errors but those that may be there."""
    running.journal(subject)


def check_boot_seconds(subject: Subject) -> None:
    """It boots in time."""
    running.boot_seconds(subject)


def check_listen(subject: Subject) -> None:
    """Just the ports that are named are open to others."""
    running.listen(subject)


def check_setuid(subject: Subject) -> None:
    """Just the files that are named are setuid or setgid."""
    running.setuid(subject)


def check_world_writable(subject: Subject) -> None:
    """Nothing can be written by everybody but what is named."""
    running.world_writable(subject)


def check_passwords(subject: Subject) -> None:
    """No account has an empty password."""
    running.passwords(subject)


def check_identity(subject: Subject) -> None:
    """Time zone, locale and host name are those of the profile."""
    running.identity(subject)


def check_size_max(subject: Subject) -> None:
    """Its file system is not larger than that."""
    running.size_max(subject)


def check_exposure(subject: Subject) -> None:
    """Units are not more exposed than that."""
    running.exposure(subject)


def check_updates(subject: Subject) -> None:
    """No package has an update."""
    tree.updates(subject)


def check_poweroff_seconds(subject: Subject) -> None:
    """It powers off in time."""
    another.poweroff_seconds(subject)


def check_unclean(subject: Subject) -> None:
    """It boots again after it was killed."""
    another.unclean(subject)


def check_volatile(subject: Subject) -> None:
    """It boots with a root that forgets what is written."""
    another.volatile(subject)


def check_read_only(subject: Subject) -> None:
    """It boots with a root that is read-only."""
    another.read_only(subject)


def machinectl_poweroff(attended: Machine, verify: Verify, build: Build, pytestconfig: pytest.Config) -> None:
    """`machinectl poweroff` is obeyed; what is shown or exported of the journal and the boot is taken before."""
    if verdicts(pytestconfig).failed(build.image.name):
        remains.keep(attended, build.log)
    elif build.wishes.export and verdicts(pytestconfig).spotless(build.image.name):
        build.journal = attended.journal()
        build.boot = boot_times(attended)
    verify(partial(ctl.poweroff, seconds=max(60.0, build.image.checks.poweroff_seconds or 0.0)))


def snapshot(snapshot: str) -> None:
    """The candidate became the golden snapshot, and was exported."""
