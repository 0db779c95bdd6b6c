"""Whether what an image stands on is verified: a candidate is told which of its checks failed, and others ask for it.

The word stands in the candidate's user property `red`: so workers of pytest-xdist hear of each other.
"""

from __future__ import annotations

import time

from pipeline.image import Image
from pipeline.place import Place
from pipeline.zfs import Zfs


def condemn(zfs: Zfs, candidate: str, check: str) -> None:
    """Says of a candidate that a check of it failed just now."""
    zfs.mark(candidate, {"red": f"{int(time.time())} {check}"})


def red_base(image: Image, place: Place, zfs: Zfs, *, since: float) -> str:
    """Which image that this one stands on failed a check since then (Unix time), in words; "" for none."""
    for base in image.chain[1:]:
        for parent in (place.layout.work, place.layout.golden):
            for entry in zfs.entries(f"{parent}/{base.name}", depth=1):
                moment, _, check = entry.properties.get("red", "0").partition(" ")
                if entry.properties.get("stage") == "candidate" and float(moment) + 1 > since:
                    return f"{base.name}, on which it stands, is not verified: {check} failed"
    return ""
