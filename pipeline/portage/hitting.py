"""The cheapest set that has a member in common with each of many sets: exact where that is quick, else near it.

Knows nothing of packages. The problem is NP-complete (Karp, 1972), yet small and easy in practice: after the
reductions below the rings of a whole distribution leave a handful of choices.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

STEPS = 20_000
"""How much is tried before the best found is taken, in looks at pairs of sets: a count and not a time, so that the same
input has the same answer on every machine. About a second at most."""

_LOOKS = 400
"""Pairs of sets that are looked at in the time of one step."""


@dataclass(frozen=True)
class Choice(Generic[T]):
    """`chosen` hits every set; `exact` says that no cheaper choice does."""

    chosen: frozenset[T]
    exact: bool


def cheapest(sets: Collection[Collection[T]], costs: Mapping[T, float], *, steps: int = STEPS) -> Choice[T]:
    """Chooses members so that each of `sets` has one, at the least sum of `costs` (all above 0).

    `steps` bounds the search for each group of sets that hang together; 0 takes what is near at once. Equal choices are
    told apart by the order of `costs`. Raises `ValueError` for an empty set, which nothing hits.
    """
    rank = {member: index for index, member in enumerate(costs)}
    masks = {sum(1 << rank[member] for member in frozenset(group)) for group in sets}
    if 0 in masks:
        raise ValueError("an empty set cannot be hit")
    prices = [costs[member] for member in rank]
    chosen, exact = 0, True
    for part in _apart(_Search(prices, 0).reduced(masks)):
        search = _Search(prices, steps)
        search.best = search.greedy(part)
        search.best_cost = search.cost_of(search.best)
        if steps:
            search.branch(part, 0, 0.0)
        exact = exact and search.steps > 0
        chosen |= search.best
    members = list(rank)
    return Choice(frozenset(members[index] for index in _bits(chosen)), exact)


def _apart(sets: Iterable[int]) -> list[set[int]]:
    """The sets in groups that have no member in common: each is a problem of its own."""
    groups: list[tuple[int, set[int]]] = []
    for mask in sets:
        mine, members = {mask}, mask
        rest = []
        for covered, group in groups:
            if covered & mask:
                mine |= group
                members |= covered
            else:
                rest.append((covered, group))
        groups = [*rest, (members, mine)]
    return [group for _, group in groups]


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        lowest = mask & -mask
        found.append(lowest.bit_length() - 1)
        mask ^= lowest
    return found


class _Search:
    """Branch and bound over bit masks: bit n of a mask is the n-th member."""

    def __init__(self, costs: list[float], steps: int) -> None:
        self.costs = costs
        self.steps = steps
        self.best = 0
        self.best_cost = float("inf")

    def cost_of(self, mask: int) -> float:
        return sum(self.costs[index] for index in _bits(mask))

    def greedy(self, sets: set[int]) -> int:
        """Takes the member that hits most sets for its cost until all are hit, then drops those not needed."""
        chosen, left = 0, set(sets)
        while left:
            hits: dict[int, int] = {}
            for mask in left:
                for index in _bits(mask):
                    hits[index] = hits.get(index, 0) + 1
            best = max(hits, key=lambda index: (hits[index] / self.costs[index], -index))
            chosen |= 1 << best
            left = {mask for mask in left if not mask >> best & 1}
        for index in sorted(_bits(chosen), key=lambda index: -self.costs[index]):
            without = chosen & ~(1 << index)
            if all(mask & without for mask in sets):
                chosen = without
        return chosen

    def reduced(self, sets: set[int]) -> list[int]:
        """Without the sets that hold another one, and without members that a cheaper one makes needless."""
        while True:
            small: list[int] = []
            for mask in sorted(sets, key=lambda mask: (mask.bit_count(), mask)):
                if not any(kept & mask == kept for kept in small):
                    small.append(mask)
            rows: dict[int, int] = {}
            for row, mask in enumerate(small):
                for index in _bits(mask):
                    rows[index] = rows.get(index, 0) | 1 << row
            needless = 0
            order = sorted(rows, key=lambda index: (self.costs[index], -rows[index].bit_count(), index))
            for place, index in enumerate(order):
                mine = rows[index]
                if any(rows[better] & mine == mine for better in order[:place] if not needless >> better & 1):
                    needless |= 1 << index
            if not needless:
                return small
            sets = {mask & ~needless for mask in small}

    def bound(self, sets: list[int]) -> float:
        """The least that hitting them can cost: of sets with no member in common each has to be paid."""
        used, least = 0, 0.0
        for mask in sets:
            if not mask & used:
                used |= mask
                least += min(self.costs[index] for index in _bits(mask))
        return least

    def branch(self, sets: set[int], chosen: int, cost: float) -> None:
        if self.steps <= 0:
            return
        self.steps -= max(1, len(sets) ** 2 // _LOOKS)
        if not sets:
            if cost < self.best_cost - 1e-9:
                self.best, self.best_cost = chosen, cost
            return
        small = self.reduced(sets)
        if cost + self.bound(small) >= self.best_cost - 1e-9:
            return
        counts: dict[int, int] = {}
        for mask in small:
            for index in _bits(mask):
                counts[index] = counts.get(index, 0) + 1
        refused = 0
        for index in sorted(_bits(small[0]), key=lambda index: (-counts[index] / self.costs[index], index)):
            left = {mask & ~refused for mask in small if not mask >> index & 1}
            if 0 in left:
                break
            self.branch(left, chosen | 1 << index, cost + self.costs[index])
            refused |= 1 << index
