"""What of the cache is kept and what goes: by age, number and size, decided from a listing alone.

The cache is the layers, the roots in which packages are built, and candidates that never passed. Nothing goes on which
something else stands, be it a golden snapshot, a candidate, a layer or a machine at work; what stands on it goes first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

_DAY = 86400.0


@dataclass(frozen=True)
class Limits:
    """How much is kept: entries of at most `days`, at most `number` of them, at most `size` bytes in all."""

    days: float = 30.0
    number: int = 200
    size: float = 100e9


@dataclass(frozen=True)
class Cached:
    """One entry of the cache: a dataset with what it holds alone (`size`, bytes), when it was made (Unix time).

    `stage` is what it ends ("" for one that was never finished), `below` the dataset of which it is a clone, `on_it`
    the datasets that are clones of it, `held` whether somebody works with it right now.
    """

    dataset: str
    stage: str
    made: float
    size: int
    below: str = ""
    on_it: tuple[str, ...] = ()
    held: bool = False

    @property
    def golden(self) -> bool:
        return self.stage == "golden"


def prune(entries: Sequence[Cached], limits: Limits, *, now: float) -> list[tuple[Cached, str]]:
    """What has to go, in an order in which it can, each with the reason."""
    gone: dict[str, tuple[Cached, str]] = {}

    def free() -> list[Cached]:
        """What could go now, the oldest first."""
        left = [entry for entry in entries if entry.dataset not in gone and not entry.golden and not entry.held]
        return sorted((one for one in left if set(one.on_it) <= set(gone)), key=lambda one: (one.made, one.dataset))

    def kept() -> list[Cached]:
        return [entry for entry in entries if entry.dataset not in gone and not entry.golden]

    while True:
        old = [one for one in free() if one.stage == "retired" or now - one.made > limits.days * _DAY]
        if not old:
            break
        for one in old:
            why = "nothing stands on it any more" if one.stage == "retired" else f"older than {limits.days:g} days"
            gone[one.dataset] = one, why
    while len(kept()) > limits.number and (rest := free()):
        gone[rest[0].dataset] = rest[0], f"more than {limits.number} entries"
    while sum(one.size for one in kept()) > limits.size and (rest := free()):
        gone[rest[0].dataset] = rest[0], f"more than {limits.size / 1e9:g} GB"
    return list(gone.values())


def table(entries: Sequence[Cached], limits: Limits, *, now: float, base: str) -> Iterator[str]:
    """The cache as lines for people: what is there, how large it is, and why it is kept."""
    going = {entry.dataset: why for entry, why in prune(entries, limits, now=now)}
    rows = sorted((one for one in entries), key=lambda one: (one.golden, one.dataset))
    if rows:
        yield f"{f'below {base}':<44} {'stage':<10} {'size':>8}  {'age':>8}  why it is kept"
    for one in rows:
        name = one.dataset.removeprefix(f"{base}/")
        why = f"goes next: {going[one.dataset]}" if one.dataset in going else _reason(one, base)
        yield f"{name:<44} {one.stage or 'unfinished':<10} {size(one.size):>8}  {_age(now - one.made):>8}  {why}"
    cache = [one for one in entries if not one.golden]
    yield (
        f"{len(cache)} of at most {limits.number} entries, {size(sum(one.size for one in cache))} of at most "
        f"{size(limits.size)}, each for at most {limits.days:g} days"
    )


def _reason(one: Cached, base: str) -> str:
    if one.golden:
        return "golden: kept until a newer version passes"
    if one.held:
        return "somebody works with it"
    if one.on_it:
        return f"{_names(one.on_it, base)} stand{'s' if len(one.on_it) == 1 else ''} on it"
    return "within the limits"


def _names(datasets: Collection[str], base: str) -> str:
    names = sorted(name.removeprefix(f"{base}/") for name in datasets)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def size(number: float) -> str:
    """A number of bytes for people."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _age(seconds: float) -> str:
    return f"{seconds / _DAY:.0f} d" if seconds >= _DAY else f"{seconds / 3600:.0f} h" if seconds >= 3600 else "new"
