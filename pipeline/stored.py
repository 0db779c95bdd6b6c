"""What the cache has in files, beside the datasets: root file systems as tars, packages, what Portage shares."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pipeline import tarball
from pipeline.lineage import listings
from pipeline.profile import pool
from pipeline.reuse.prune import size

_DAY = 86400

_KEPT = {
    "tars": f"root file systems: {tarball.KEPT / _DAY:g} days after a build asked for one",
    "packages": f"Debian's: {pool.AGE / _DAY:g} days after a build asked for one, {pool.SIZE >> 30} GiB at most",
    "listings": f"listings of golden versions: the last {listings.KEPT}",
    "digests": "of large files that images take: until you delete it",
    "portage/distfiles": "until you delete it",
    "portage/binpkgs": "until you delete it",
    "portage/binhosts": "fetched from binhosts: until you delete it",
    "portage/repos": "until you delete it",
    "portage/plans": "how cycles were opened: until you delete it",
}
"""The folders below the shared one, each with what it has and how long that is kept."""


def table(folder: Path) -> Iterator[str]:
    """What there is below the folder that all images share, as lines for people; none where there is nothing."""
    rows = [(name, _used(folder / name), why) for name, why in _KEPT.items() if (folder / name).is_dir()]
    if rows:
        yield f"{f'below {folder}':<55} {'size':>8}  {'':>8}  what it is, and how long it is kept"
    for name, used, why in rows:
        yield f"{name:<55} {size(used):>8}  {'':>8}  {why}"


def _used(folder: Path) -> int:
    """The bytes that a folder takes on the disk."""
    used = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it went just now
            used += path.lstat().st_blocks * 512
    return used
