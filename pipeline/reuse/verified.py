"""What a candidate has passed, kept with its snapshot: so that a machine which has not changed need not boot again.

A verdict holds for the very snapshot that carries it, and for as long as what verified it is the same: how the machine
is run, the image's own tests, our checks, and the systemd and OpenZFS that it was booted with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.command import output
from pipeline.image import FILE, Image, as_data
from pipeline.reuse import digest
from pipeline.reuse.marks import packed, unpacked
from pipeline.zfs import Zfs

_HOME = Path(__file__).parents[2]
_CODE = ("pipeline/machine", "pipeline/network", "pipeline/checks", "stages")


class Made(Protocol):
    """A check that was made: pytest's node id, its result, and the seconds that it took."""

    @property
    def name(self) -> str: ...
    @property
    def result(self) -> str: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True)
class Check:
    """As `Made`, read again."""

    name: str
    result: str
    seconds: float


@dataclass(frozen=True)
class Verdict:
    """All checks that a candidate passed, and when (Unix time, seconds)."""

    time: float
    checks: tuple[Check, ...]


def key(image: Image) -> str:
    """The hash of all that verifies an image here."""
    code = {path for path in image.folder.rglob("*.py") if image.root is None or image.root not in path.parents}
    beside = {path for path in image.folder.iterdir() if path.is_file() and path.name != FILE}
    files = sorted(code | beside)
    files += [path for name in _CODE for path in sorted((_HOME / name).rglob("*.py"))]
    data = [
        as_data(image.boot),
        as_data(image.nspawn),
        as_data(image.service),
        as_data(image.checks),
        image.secrets_for("credential"),
        dict(image.bootstrap.shared),
        [(path.name, digest.of_file(path)) for path in files],
        output(["systemctl", "--version"]).stdout.split("\n")[0],
        Zfs.version(),
    ]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def as_mark(key: str, verdict: Verdict) -> str | None:
    """A verdict as the text of a user property; None where there are too many checks for one."""
    return packed([key, verdict.time, [[one.name, one.result, round(one.seconds, 2)] for one in verdict.checks]])


def from_mark(text: str | None, key: str) -> Verdict | None:
    """The verdict in a user property, None if there is none that holds for `key`; one of no checks is none."""
    data = unpacked(text)
    try:
        made_for, time, checks = data
        verdict = Verdict(float(time), tuple(Check(*row) for row in checks))
    except (TypeError, ValueError):
        return None
    passed = bool(verdict.checks) and all(one.result == "passed" for one in verdict.checks)
    return verdict if made_for == key and passed else None


def verdict(checks: Sequence[Made], time: float) -> Verdict:
    """A verdict of checks that all passed."""
    return Verdict(time, tuple(Check(one.name, one.result, one.seconds) for one in checks))
