"""A root file system that somebody else made: a tarball, checked and taken as it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bootstrap.indices import indices
from pipeline.bootstrap.method import STRICT, Method, Settings, register
from pipeline.bootstrap.source import Tarball, plain
from pipeline.command import BuildLog
from pipeline.reuse.world import Source


@dataclass(frozen=True, config=STRICT)
class FromTarball(Settings, Tarball):
    """A root file system from a tarball."""

    method: Annotated[Literal["tarball"], Field(description="A root file system from a tarball.")] = "tarball"

    @property
    def files(self) -> tuple[str, ...]:
        return super(Settings, self).files  # Tarball's

    def world(self, tree: Path) -> tuple[Source, ...]:
        """Its digest tells it; one that is only signed may be another the next day."""
        if not self.remote or self.sha256 is not None:
            return ()
        return (Source("age", self.tarball, time=int(time.time())),)

    def installed_world(self, tree: Path) -> tuple[Source, ...]:
        return (*self.world(tree), *indices(tree))


class _FromTarball(Method[FromTarball]):
    name = "tarball"
    settings = FromTarball
    tools: ClassVar = {"tar": "tar"}
    unprivileged = True

    def build(self, settings: FromTarball, tar: Path, *, log: BuildLog, base: Path, slowness: float) -> None:
        plain(settings, tar, key="bootstrap", log=log, base=base, slowness=slowness)


register(_FromTarball())
