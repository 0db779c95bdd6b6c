"""What of the cache goes and what stays: decided from listings, by the thousand."""

from __future__ import annotations

import random

import pytest

from pipeline.reuse.prune import Cached, Limits, prune, table

NOW = 1_800_000_000.0
DAY = 86400.0


def entry(name: str, stage: str = "bootstrap", *, days: float = 0.0, size: int = 1, **more: object) -> Cached:
    return Cached(f"p/{name}", stage, NOW - days * DAY, size, **more)  # type: ignore[arg-type]


def gone(entries: list[Cached], limits: Limits) -> list[str]:
    return [one.dataset for one, _ in prune(entries, limits, now=NOW)]


def test_what_is_old_goes_and_says_so() -> None:
    entries = [entry("bootstrap/a", days=31), entry("bootstrap/b", days=29)]
    assert [(one.dataset, why) for one, why in prune(entries, Limits(), now=NOW)] == [
        ("p/bootstrap/a", "older than 30 days")
    ]


def test_what_something_stands_on_stays_however_old() -> None:
    entries = [
        entry("bootstrap/a", days=90, on_it=("p/golden/web1",)),
        entry("golden/web1", "golden", days=80, below="p/bootstrap/a"),
    ]
    assert gone(entries, Limits(days=1, number=0, size=0)) == []


def test_what_stands_on_it_goes_first() -> None:
    entries = [
        entry("bootstrap/a", days=90, on_it=("p/bootstrap/b",)),
        entry("bootstrap/b", "packages", days=80, below="p/bootstrap/a", on_it=("p/work/x",)),
        entry("work/x", "candidate", days=70, below="p/bootstrap/b"),
    ]
    assert gone(entries, Limits()) == ["p/work/x", "p/bootstrap/b", "p/bootstrap/a"]


def test_a_clone_that_is_no_entry_keeps_what_it_stands_on() -> None:
    assert gone([entry("bootstrap/a", days=90, on_it=("tank/somebody/elses",))], Limits()) == []


def test_what_somebody_works_with_stays() -> None:
    assert gone([entry("bootstrap/a", days=90, held=True)], Limits(number=0, size=0)) == []


def test_over_the_number_the_oldest_go() -> None:
    entries = [entry(f"bootstrap/{day}", days=day) for day in range(5)]
    assert gone(entries, Limits(number=3)) == ["p/bootstrap/4", "p/bootstrap/3"]


def test_over_the_size_the_oldest_go_until_it_fits() -> None:
    entries = [entry(f"bootstrap/{day}", days=day, size=10) for day in range(5)]
    assert gone(entries, Limits(size=25)) == ["p/bootstrap/4", "p/bootstrap/3", "p/bootstrap/2"]


def test_retired_goes_as_soon_as_nothing_stands_on_it() -> None:
    stands = entry("bootstrap/retired-base-1", "retired", on_it=("p/golden/web1",))
    assert gone([stands], Limits()) == []
    assert gone([entry("bootstrap/retired-base-1", "retired")], Limits()) == ["p/bootstrap/retired-base-1"]


def test_golden_never_counts_and_never_goes() -> None:
    assert gone([entry(f"golden/{n}", "golden", days=999, size=10**12) for n in range(9)], Limits(number=1)) == []


@pytest.mark.parametrize("seed", range(200))
def test_whatever_there_is_nothing_loses_what_it_stands_on(seed: int) -> None:
    pick = random.Random(seed)
    parents: dict[int, int | None] = {n: pick.choice([None, *range(n)]) for n in range(12)}
    entries = [
        entry(
            str(n),
            pick.choice(("bootstrap", "packages", "candidate", "golden", "retired")),
            days=pick.uniform(0, 60),
            size=pick.randrange(100),
            below=f"p/{parents[n]}" if parents[n] is not None else "",
            on_it=tuple(f"p/{child}" for child in parents if parents[child] == n),
            held=pick.random() < 0.2,
        )
        for n in range(12)
    ]
    left = {one.dataset: one for one in entries}
    for dataset in gone(entries, Limits(days=pick.uniform(1, 60), number=pick.randrange(12), size=pick.randrange(400))):
        going = left.pop(dataset)
        assert not going.golden and not going.held
        assert not set(going.on_it) & set(left), "a clone would lose its origin"


def test_the_list_says_of_each_why_it_is_kept() -> None:
    entries = [
        entry("bootstrap/a", days=3, size=80_000_000, on_it=("p/bootstrap/b", "p/golden/web1")),
        entry("bootstrap/b", "packages", days=2, size=9_000_000),
        entry("bootstrap/c", days=99, size=1_000_000),
        entry("golden/web1", "golden", days=1, size=2_500_000_000),
    ]
    header, *lines = table(entries, Limits(), now=NOW, base="p")
    assert header.split() == ["below", "p", "stage", "size", "age", "why", "it", "is", "kept"]
    assert "bootstrap/b, golden/web1 stand on it" in lines[0]
    assert "80 MB" in lines[0] and "3 d" in lines[0]
    assert "within the limits" in lines[1]
    assert "goes next: older than 30 days" in lines[2]
    assert "golden: kept until a newer version passes" in lines[3]
    assert lines[-1] == "3 of at most 200 entries, 90 MB of at most 100.0 GB, each for at most 30 days"
