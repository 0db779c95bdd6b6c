"""The line of an image's golden versions: each descends from the one before, so that the step between them is small.

The first version is a candidate's dataset itself, moved to golden. A later candidate, built from nothing as ever, is
grafted onto the golden tree (`graft`), and a snapshot is taken. It counts as a version only when its digest has been
taken again from that snapshot, with all read again that was touched since the version before, and is the clean one's.
The version before leaves a bookmark, from which the next delta starts, and its blocks are let go.

    golden/IMAGE@VERSION     stage=graft      a snapshot whose digest nobody has compared yet: worth nothing
                             stage=candidate  a version, with all marks of the candidate, and `tree`, its digest
    golden/IMAGE#VERSION     an earlier version

Whenever a run is killed, `settle` of the next one goes back to the newest version, and the candidate is still there.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifact import tree, walk
from pipeline.errors import CheckFailed
from pipeline.lineage import sending
from pipeline.lineage.graft import act, plan
from pipeline.lineage.listings import Listings
from pipeline.place import RUN, Place
from pipeline.zfs import Entry, Zfs, mounts_of, unmount

VERSION = "%Y%m%dT%H%M%SZ"
"""The form of a version's name (strftime(3), UTC)."""

BOOKMARKS = 20
"""Of how many earlier versions at least the bookmarks are kept: each is some hundred bytes."""

_GRAFT = "graft"
_SEALED = "candidate"


def advance(
    zfs: Zfs, place: Place, candidate: str, golden: str, *, keep: int, listings: Listings, on_base: bool = False
) -> str:
    """Makes the snapshot `candidate` the newest version of the dataset `golden`; returns that version's snapshot.

    Does nothing if it is that already. `listings` spares reading what is as it was before. Bookmarks of `keep` earlier
    versions, and of `BOOKMARKS` at least, are left. With `on_base` the line begins anew where the candidate stands on
    another image's golden version, and the line so far did not stand on that: for what changed since the base counts
    more than what changed since the version before. Raises `CheckFailed` if the grafted tree is not the candidate's,
    and `PlaceError` if it cannot be written; `golden` then is what it was before.
    """
    _release(zfs, candidate.split("@")[0])
    left = settle(zfs, golden)
    versions = _versions(left)
    if [candidate] == [entry.name for entry in left]:
        return candidate  # and there is no earlier one to let go of
    if not versions or candidate != versions[-1].name:
        why = _objection(zfs, candidate, golden, versions, on_base=on_base)
        if why is None:
            candidate = _grafted(zfs, place, candidate, left[-1].name, listings)
        else:
            candidate = _begun(zfs, candidate, golden, why)
    _retire(zfs, golden, max(keep, BOOKMARKS))
    return candidate


def settle(zfs: Zfs, golden: str) -> list[Entry]:
    """Returns a golden dataset to its newest version, whatever a killed run left of it; the image's lock is held.

    Returns its snapshots, the oldest first.
    """
    _release(zfs, golden)
    entries = zfs.entries(golden, depth=1)
    for entry in entries:
        if entry.properties.get("stage") == _GRAFT:
            zfs.destroy(entry.name)
    left = [entry for entry in entries if entry.kind == "snapshot" and entry.properties.get("stage") != _GRAFT]
    if left:
        zfs.rollback(left[-1].name)
    return left


def _release(zfs: Zfs, dataset: str) -> None:
    """Unmounts what processes of ours that are gone mounted of a dataset (see `Place.mountpoint`)."""
    mounts = RUN / "mnt"
    for where in mounts_of(dataset):
        if where.is_relative_to(mounts) and not Path("/proc", where.relative_to(mounts).parts[0]).exists():
            unmount(where, log=zfs.log)


def _versions(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.kind == "snapshot" and entry.properties.get("stage") == _SEALED]


def _objection(zfs: Zfs, candidate: str, golden: str, versions: Sequence[Entry], *, on_base: bool) -> str | None:
    """Why the candidate cannot be grafted and begins a line of its own; "" where there never was one, else None."""
    if not zfs.exists(golden):
        return ""
    if not versions:
        return f"{golden} held no version of goldspawn's"
    datasets = (candidate.split("@")[0], golden)
    why = None
    new, old = (zfs.get(name, "compression") for name in datasets)
    if new != old:
        why = f"the compression changed from {old} to {new}"
    elif on_base:
        new, old = (base_of(zfs, name, golden.rsplit("/", 1)[0]) for name in datasets)
        if new not in ("", old):
            why = f"it stands on {told(new)} now"
    return why if why is None or not any(_clones(zfs, version.name) for version in versions) else None


def base_of(zfs: Zfs, dataset: str, goldens: str) -> str:
    """The snapshot of another image, below `goldens`, on which a dataset stands; "" if it stands on none.

    Between the two there may be layers.
    """
    return next((origin for origin in sending.origins(zfs, dataset) if origin.startswith(f"{goldens}/")), "")


def told(snapshot: str) -> str:
    """A golden snapshot in a user's words: image and version."""
    return snapshot.rsplit("/", 1)[1].replace("@", " ")


def _clones(zfs: Zfs, snapshot: str) -> bool:
    return zfs.get(snapshot, "clones") not in ("", "-")


def _begun(zfs: Zfs, candidate: str, golden: str, why: str) -> str:
    """Moves the candidate's dataset to golden, in place of what is there; each step leaves a state to go on from."""
    dataset, name = candidate.split("@")
    if name == "candidate":
        name = _next_version(zfs, golden)
        zfs.rename(candidate, f"{dataset}@{name}")
    if why:
        zfs.log.line(f"{golden} begins anew: {why}")
        zfs.mark(dataset, {"began": why})
    zfs.destroy(golden)
    zfs.rename(dataset, golden)
    return f"{golden}@{name}"


def _grafted(zfs: Zfs, place: Place, candidate: str, before: str, listings: Listings) -> str:
    """Grafts the candidate's tree onto the golden one, as the snapshot `before` has it; returns the new version's."""
    golden, marks = before.split("@")[0], zfs.marks(candidate)
    version = f"{golden}@{_next_version(zfs, golden)}"
    have = listings.of(zfs.get(before, "guid"))
    try:
        with zfs.mounted(candidate, place.mountpoint(candidate), readonly=True) as clean:
            with zfs.mounted(golden, place.mountpoint(golden)) as onto:
                have = have or list(walk.entries(onto))
                known = walk.known_by(have)
                want = list(walk.entries(clean, known=known if _related(zfs, candidate, golden) else None))
                steps = plan(have, want)
                zfs.log.line(f"graft onto {golden}: {len(steps)} steps for {len(want)} entries")
                act(steps, clean, onto)
            zfs.snapshot(version, marks={"stage": _GRAFT})
        with zfs.mounted(version, place.mountpoint(version), readonly=True) as root:
            made = list(walk.entries(root, known=known))
        digest = tree.digest_of(made)
        _compare(digest, tree.digest_of(want), version, candidate)
        zfs.mark(version, {**marks, "stage": _SEALED, "tree": str(digest)})
        listings.keep(zfs.get(version, "guid"), made)
    except BaseException:
        settle(zfs, golden)
        raise
    return version


def _compare(made: tree.TreeDigest, clean: tree.TreeDigest, version: str, candidate: str) -> None:
    if made != clean:
        raise CheckFailed(
            f"{version} is not the tree of {candidate}: its digest is {made}, that of the clean tree {clean}",
            hint=f"nothing was exported; zfs destroy -r {version.split('@')[0]} begins anew, with a full stream",
        )


def _related(zfs: Zfs, candidate: str, golden: str) -> bool:
    """Whether both are of one dataset, or stand on one snapshot."""
    one, other = ({name, *sending.origins(zfs, name)} for name in (candidate.split("@")[0], golden))
    return bool(one & other)


def _next_version(zfs: Zfs, golden: str) -> str:
    """The time now, or the first one after the newest version: names sort as versions do, whatever the clock says."""
    taken = [point.version for point in sending.points(zfs, golden)]
    last = max(filter(is_version, taken), default="")
    after = calendar.timegm(time.strptime(last, VERSION)) + 1 if last else 0
    return time.strftime(VERSION, time.gmtime(max(time.time(), after)))


def is_version(name: str) -> bool:
    """Whether a snapshot or bookmark with this name is a version of ours, and not an operator's own."""
    return re.fullmatch(r"\d{8}T\d{6}Z", name) is not None


def _retire(zfs: Zfs, golden: str, keep: int) -> None:
    """Lets go of the blocks of all versions but the newest, where nothing stands on them; their bookmarks stay."""
    marked = {point.version for point in sending.points(zfs, golden) if point.bookmarked}
    for entry in _versions(zfs.entries(golden, depth=1))[:-1]:
        if entry.name.split("@")[1] not in marked:
            sending.bookmark(zfs, entry.name)
        if not _clones(zfs, entry.name) and zfs.get(entry.name, "userrefs") == "0":
            zfs.destroy(entry.name)
    bookmarks = [point.name for point in sending.points(zfs, golden) if point.bookmarked]
    for name in bookmarks[:-keep]:
        sending.forget(zfs, name)
