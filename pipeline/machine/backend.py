"""pytest-testinfra's way to a machine: each command is a transient unit in it, started by systemd-run(1)."""

from __future__ import annotations

from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from pipeline.machine import portage_packages


class NspawnBackend(BaseBackend):  # type: ignore[misc,unused-ignore]
    """Runs commands in a registered machine; output, error output and exit status come back as they are."""

    NAME = "nspawn"

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.name = name
        super().__init__(name, *args, **kwargs)

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        # --collect: a command that fails must not leave a failed unit behind, which would make the machine degraded.
        # --uid: with a user a unit has HOME and the like, as a login has.
        return self.run_local(
            "systemd-run --machine=%s --quiet --collect --wait --pipe --service-type=exec --uid=root -- /bin/sh -c %s",
            self.name,
            # systemd puts variables of its own in the place of ${NAME} (systemd.service(5), command lines).
            self.get_command(command, *args).replace("$", "$$"),
        )


portage_packages.extend()


def host(name: str) -> Host:
    """The machine `name` as a testinfra `Host`: `host("web1").service("nginx").is_running`."""
    return Host(NspawnBackend(name))
