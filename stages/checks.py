"""The checks that every image goes through, in order: pytest collects them once for each image.toml.

A stage's check passes when its fixture does. Fixtures stand elsewhere: a module that is both a plugin and collected
would define each of them twice.
"""

from __future__ import annotations

from pipeline.build import Build
from pipeline.machine import Machine
from pipeline.machine import machinectl as ctl
from pipeline.workspace import Workspace


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


def machinectl_list(machinectl: Machine) -> None:
    """`machinectl list` has the machine."""
    ctl.listed(machinectl)


def machinectl_show(machinectl: Machine) -> None:
    """`machinectl show` says that it runs, and from where."""
    ctl.shown(machinectl)


def machinectl_status(machinectl: Machine) -> None:
    """`machinectl status` knows which operating system it is."""
    ctl.status(machinectl)


def machinectl_shell(machinectl: Machine) -> None:
    """`machinectl shell` gives a shell that answers."""
    ctl.shell(machinectl)


def machinectl_login(machinectl: Machine) -> None:
    """`machinectl login` comes to a login prompt."""
    ctl.login(machinectl)


def machinectl_reboot(machinectl: Machine) -> None:
    """`machinectl reboot` is obeyed, and the machine is healthy again."""
    ctl.reboot(machinectl)


def machinectl_poweroff(machinectl: Machine, build: Build) -> None:
    """`machinectl poweroff` is obeyed; the journal is taken before, while there is a machine to ask."""
    build.journal = machinectl.journal()
    ctl.poweroff(machinectl)


def snapshot(snapshot: str) -> None:
    """The candidate became the golden snapshot, and was exported."""
