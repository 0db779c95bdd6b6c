"""What is checked: a running machine, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from testinfra.host import Host

from pipeline.image import Image
from pipeline.image.checks import Checks
from pipeline.machine import Machine, host
from pipeline.machine.settings import Settings


@dataclass(frozen=True)
class Subject:
    """The machine made of an image.

    `size` is what its file system holds (bytes). `another` makes a further machine of the same candidate, with settings
    of its own, not started yet and gone after the block; `clone` a mounted clone of it in which nothing runs.
    `logins` is a folder with files of apt_auth.conf(5).
    """

    machine: Machine
    image: Image
    size: int
    another: Callable[[Settings], AbstractContextManager[Machine]]
    clone: Callable[[], AbstractContextManager[Path]]
    logins: Path | None = None

    @property
    def wanted(self) -> Checks:
        return self.image.checks

    @cached_property
    def host(self) -> Host:
        return host(self.machine.name)

    def limit(self, seconds: float) -> float:
        """Seconds of a native host, in this place."""
        return seconds * self.machine.slowness
