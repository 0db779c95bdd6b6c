"""How much emerge builds at once: from the machine, its memory, and how many images are built at the same time."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass

from pipeline.channel import AT_ONCE

MEMORY_A_COMPILER = 2 << 30
"""Bytes of memory that one compiler may want (Gentoo's handbook, MAKEOPTS)."""


@dataclass(frozen=True)
class Size:
    """`jobs` packages are built at once (emerge's --jobs), each by `compilers` at once (-j of MAKEOPTS).

    Nothing is begun while the machine's load is above `load`: that is of all images together.
    """

    jobs: int
    compilers: int
    load: int

    @property
    def makeopts(self) -> str:
        return f"-j{self.compilers} -l{self.load}"


@dataclass(frozen=True)
class Machine:
    """What there is to build with: processors, bytes of memory, and how many images share them."""

    cores: int
    memory: int
    images: int = 1

    def size(self, jobs: int | None = None, makeopts: str = "") -> Size:
        """How much one image builds at once; `jobs` and `makeopts` are what its own configuration says of that.

        All compilers together fit into memory. What is left open is shared between packages and compilers: many
        packages have only one thing to do at a time, and the last one of a ring has nobody beside it.
        """
        cores = max(1, self.cores // self.images)
        room = max(1, round(self.memory / self.images / MEMORY_A_COMPILER))
        asked = re.search(r"(?:^|\s)(?:-j|--jobs[ =])\s*(\d+)", makeopts)
        compilers = max(1, int(asked[1])) if asked is not None else None
        if jobs is None:
            jobs = max(1, min(cores, room // compilers if compilers is not None else math.isqrt(room)))
        if compilers is None:
            compilers = max(1, min(cores, room // jobs))
        return Size(jobs, compilers, self.cores)


def machine() -> Machine:
    """This machine, as this process shares it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    at_once = os.environ.get("PYTEST_XDIST_WORKER_COUNT") or os.environ.get(AT_ONCE) or "1"
    return Machine(os.cpu_count() or 1, memory, max(1, int(at_once)))
