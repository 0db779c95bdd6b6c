"""Which streams a host should fetch: the cheapest chain of deltas from what it has to the newest version, or all of it.

`plan` decides from an index and guids alone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pipeline.artifact.index import Index, Stream
from pipeline.artifact.room import size


@dataclass(frozen=True)
class Choice:
    """The streams to fetch and receive, in this order, and why it is these; none if the host has the newest version."""

    streams: tuple[Stream, ...]
    why: str

    def __str__(self) -> str:
        """One line for a person."""
        told = ", then ".join(f"{stream.file} ({size(stream.size)})" for stream in self.streams)
        return f"{told}: {self.why}" if told else self.why


def plan(index: Index, have: Collection[str]) -> Choice:
    """What a host that has the snapshots with the guids `have` should fetch to get the newest version."""
    target = next(version for version in index.versions if version.version == index.newest)
    if target.guid in have:
        return Choice((), f"nothing to fetch: {index.image} {index.newest} is there")
    chain = _cheapest(index, target.guid, have)
    full = next((stream for stream in target.streams if stream.kind == "full"), None)
    if chain is not None and (full is None or sum(stream.size for stream in chain) < full.size):
        since = chain[0].from_version
        return Choice(chain, f"what changed since {chain[0].from_image} {since}, which is there")
    if full is None:
        return Choice((), f"nothing can be fetched: no stream here leads to {index.image} {index.newest}")
    if chain is not None:
        why = f"the deltas are larger, {size(sum(stream.size for stream in chain))}"
    elif not have:
        why = "nothing that a delta starts from is there"
    else:
        why = f"none of the {len(have)} snapshots there is one that a delta starts from"
    return Choice((full,), f"in full, since {why}")


def _cheapest(index: Index, target: str, have: Collection[str]) -> tuple[Stream, ...] | None:
    """The chain of deltas with the fewest bytes that leads from something in `have` to `target`; None if none does.

    Versions are in their order, and a delta comes from an earlier one or from another image: one pass finds all.
    """
    best: dict[str, tuple[int, tuple[Stream, ...]]] = dict.fromkeys(have, (0, ()))
    for stream in index.streams:
        if stream.from_guid is None or stream.from_guid not in best:
            continue
        cost, chain = best[stream.from_guid]
        if stream.guid not in best or cost + stream.size < best[stream.guid][0]:
            best[stream.guid] = (cost + stream.size, (*chain, stream))
    return best[target][1] if target in best else None
