"""What a running emerge says of itself in its status file: FEATURES="observability", of Portage 3.0.82 and later.

The file is FOLDER/emerge-PID.json, written anew at most once a second and at least every two (its `_observability.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = "/run/portage"
"""Where an emerge writes it (PORTAGE_RUN_PATH)."""


@dataclass(frozen=True)
class Job:
    """A package that is being built or merged: `phase` is the ebuild's ("" if unknown), `elapsed` in seconds."""

    package: str
    phase: str
    elapsed: float


@dataclass(frozen=True)
class Status:
    """How far an emerge is: `done` of `total` packages, and what it is at, the oldest first."""

    done: int
    total: int
    jobs: tuple[Job, ...]


def read(folder: Path, root: str | None = None) -> Status | None:
    """The newest status in a folder, of an emerge that works for this root (None: any); None where there is none."""
    newest: tuple[float, Status] | None = None
    for file in folder.glob("emerge-*.json"):
        try:
            told = json.loads(file.read_text())
            tasks = told["tasks"]
            jobs = tuple(Job(task["cpv"], task["phase"] or "", float(task["elapsed"] or 0)) for task in tasks)
            found = float(told["timestamp"]), Status(int(told["jobs"]["completed"]), int(told["jobs"]["total"]), jobs)
            ours = root is None or any(Path(task["root"]) == Path(root) for task in tasks)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it ends just now, or is of another format
        if ours and (newest is None or found[0] > newest[0]):
            newest = found
    return newest[1] if newest is not None else None
