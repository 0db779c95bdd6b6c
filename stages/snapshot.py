"""Stage 8, snapshot: a candidate of which every check passed becomes golden, and is exported."""

from __future__ import annotations

import time

import pytest

from pipeline.artifact import manifest, receive
from pipeline.artifact.manifest import Manifest
from pipeline.artifact.room import size
from pipeline.artifact.verify import current
from pipeline.bases import red_base
from pipeline.build import Build
from pipeline.cache import clear
from pipeline.export import export
from pipeline.lineage.deltas import wanted
from pipeline.plugin.verdict import Outcome, verdicts
from pipeline.reuse.verified import as_mark, key, verdict
from pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def snapshot(build: Build, profile: Workspace, pytestconfig: pytest.Config) -> str:
    """The golden snapshot's name. Skips, with the reason, if one check of the image did not pass in this run."""
    with build.stage("snapshot"):
        checks = verdicts(pytestconfig).outcomes(build.image.name)
        since = build.wishes.policy.since
        if reason := _objection(checks) or red_base(build.image, build.place, since=since):
            build.log.line(f"not exported: {reason}")
            pytest.skip(f"not exported: {reason}")
        golden = profile.promote(build.wishes.listings, build.deltas)
        if not profile.start.holds("candidate"):
            clear(build.place, build.wishes.limits, build.log)
        passed = build.verdict or verdict(checks, time.time())
        if build.verdict is None and (mark := as_mark(key(build.image), passed)) is not None:
            build.zfs.mark(golden, {"verdict": mark})
        where = build.wishes.artifacts / build.image.name
        build.facts["version"] = golden.partition("@")[2]
        if not build.wishes.export:
            build.notes["snapshot"] = f"{golden}; not exported, as asked"
            return golden
        known = current(where, build.zfs.get(golden, "guid")) if build.verdict is not None else None
        if known is not None:
            starts, lacking = wanted(build, golden, where)
            if {start.guid for start in starts} <= known:
                told = [f"{golden}; {where} is of this snapshot, and whole", *map(str, lacking)]
                build.notes["snapshot"] = "; ".join(told)
                build.facts |= _facts(manifest.load(where))
                return golden
        made = export(build, golden, passed.checks)
        build.facts |= _facts(made)
        sizes = [f"{made.stream.size / 1e6:.0f} MB"]
        sizes += [f"{size(delta.size)} from {delta.origin.image} {delta.origin.version}" for delta in made.deltas]
        slower = made.changes.boots if made.changes is not None else ""
        told = [f"{golden} ({', '.join(sizes)})", build.notes.pop("deltas", ""), slower]
        build.notes["snapshot"] = "; ".join(filter(None, told))
        build.notes["exported"] = "\n".join(receive.lines(made, where))
    return golden


def _facts(made: Manifest) -> dict[str, str]:
    """What is told of a version in one line each: its boot, in seconds, and what is new in it."""
    facts = {"boot_seconds": f"{made.boot.seconds:.1f}"} if made.boot is not None else {}
    if made.changes is not None:
        facts["changes"] = made.changes.summary
    return facts


def _objection(checks: list[Outcome]) -> str | None:
    """Why these checks are no verdict, in a few words; None if every one of them passed."""
    for result in ("failed", "skipped", "uncollected", "deselected", "started"):
        names = [_short(check.name) for check in checks if check.result == result]
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            verb = "was" if len(names) == 1 else "were"
            told = {"failed": "failed", "started": "did not end", "uncollected": f"{verb} not collected"}
            were = told.get(result, f"{verb} {result}")
            return f"{', '.join(names[:3])}{more} {were}"
    return None


def _short(nodeid: str) -> str:
    """A check without its file, and a file without its folder."""
    return nodeid.partition("::")[2] or nodeid.rpartition("/")[2]
