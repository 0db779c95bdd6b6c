"""What a manifest says of cycles: all of it, or what was left out."""

from __future__ import annotations

import random

from pipeline.gentoo.merge import as_mark, told
from pipeline.portage import Break, Outcome, Package
from pipeline.reuse.marks import ROOM, unpacked


def outcome(size: int) -> Outcome:
    dice = random.Random(1)
    names = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=12)) for _ in range(size)]
    packages = [Package.of(f"dev-libs/{name}-1") for name in names]
    return Outcome(
        breaks=tuple(Break("nodeps", (one,)) for one in packages[: size // 2]),
        rebuilt=(tuple(packages),),
        resolutions=2,
    )


def test_a_distribution_worth_of_breaks_stands_there_whole() -> None:
    facts = unpacked(as_mark(told(outcome(100))))
    assert (len(facts["breaks"]), len(facts["rebuilt"][0]), "left_out" in facts) == (50, 100, False)


def test_what_is_too_much_is_named_and_not_told_as_none() -> None:
    text = as_mark({**told(outcome(3000)), "packages": told(outcome(10))})
    facts = unpacked(text)
    assert len(text) <= ROOM
    assert facts["left_out"] == ["packages", "rebuilt", "breaks"][: len(facts["left_out"])] or facts["left_out"] == [
        "packages", "rebuilt", "failed", "breaks",
    ]  # fmt: skip
    assert not set(facts["left_out"]) & set(facts)
    assert facts["summary"].startswith("1500 breaks in 2 resolutions, 3000 built again")
