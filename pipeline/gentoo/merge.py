"""Sets and atoms merged into an image's tree, with every cycle opened and mended on the way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.gentoo.workshop import Workshop
from pipeline.portage import Emerge, Options, Outcome, Plan, Trial, resolve
from pipeline.portage import plan as planned
from pipeline.portage.installed import installed
from pipeline.portage.memory import Unfinished
from pipeline.portage.rebuild import FROM_SOURCE, half
from pipeline.portage.stacked import stacked
from pipeline.reuse.marks import packed

MARK = "cycles"
"""The user property of a snapshot in which it stands how the cycles were opened, for the manifest."""


def merge_sets(workshop: Workshop, tree: Path) -> Outcome:
    """Merges the image's sets into `tree`, which holds the configuration of a target and perhaps a stage3.

    Raises `Unbreakable`, `CommandFailed`, `CheckFailed` and `InputError` as `pipeline.portage.resolve` does.
    """
    with workshop.target(tree) as (emerge, trial):
        first = Outcome()
        if workshop.settings.first_pass == "nodeps":
            with _incomplete(emerge):
                emerge.merge("--nodeps", "--oneshot", "--buildpkg=n", "@system")
        elif workshop.settings.first_pass == "packages.build":
            with _incomplete(emerge):
                first = _merge_packages_build(workshop, emerge, trial)
        options = _options(workshop, trial, update=workshop.settings.stage3 is not None)
        outcome = resolve(emerge, workshop.settings.sets, options, say=workshop.log.line).after(first)
        emerge.merge("--depclean", "--with-bdeps=n")
        # A binary package of it would be linked with the old library again.
        built = () if workshop.settings.binary == "only" else FROM_SOURCE
        emerge.merge(*built, "@preserved-rebuild")
        _refuse_offers(workshop, emerge)
    return outcome


@contextlib.contextmanager
def _incomplete(emerge: Emerge) -> Iterator[None]:
    """What is merged into the target meanwhile counts as incomplete: it is built again once the sets are merged."""
    began, before = int(time.time()), set(installed(emerge.seen))
    yield
    fresh = [entry.package for cpv, entry in installed(emerge.seen).items() if cpv not in before]
    unfinished = Unfinished.of(emerge, "target")
    unfinished.add(fresh, now=began)
    for package in fresh:
        unfinished.seen(half(emerge, package))


def _merge_packages_build(workshop: Workshop, emerge: Emerge, trial: Trial | None) -> Outcome:
    """Merges what the profile's packages.build names, with hardly a flag set, as catalyst makes its stage1."""
    profile = workshop.settings.profile
    if not (names := stacked(profile, "packages.build", workshop.repositories)):
        raise InputError(
            f'bootstrap.first_pass of image.toml: the profile "{profile}" has no packages.build',
            hint="leave it out: cycles are opened without it",
        )
    flags = f"-* build {emerge.envvar('BOOTSTRAP_USE')}".strip()
    small = replace(
        emerge,
        options=(*emerge.options, "--oneshot", "--implicit-system-deps=n", "--buildpkg=n"),
        environment={**emerge.environment, "USE": flags},
    )
    return resolve(small, names, _options(workshop, trial), say=workshop.log.line)


def merge_packages(workshop: Workshop, tree: Path, atoms: Sequence[str]) -> Outcome:
    """Merges atoms into a tree that has its sets, and adds them to its world file. Raises as `merge_sets`."""
    with workshop.target(tree) as (emerge, trial):
        outcome = resolve(emerge, atoms, _options(workshop, trial), say=workshop.log.line)
        _refuse_offers(workshop, emerge)
    return outcome


def _refuse_offers(workshop: Workshop, emerge: Emerge) -> None:
    """Removes the files beside those that were kept, which etc-update(1) would ask about."""
    if workshop.settings.config_files == "package":
        return
    for protected in emerge.envvar("CONFIG_PROTECT").split():
        for offer in sorted((emerge.seen / protected.lstrip("/")).rglob("._cfg[0-9][0-9][0-9][0-9]_*")):
            workshop.log.line(
                f"kept {offer.with_name(offer.name[10:]).relative_to(emerge.seen)}: not that of a package"
            )
            offer.unlink()


def plan(workshop: Workshop, tree: Path) -> Plan:
    """How the cycles of the image's sets would be opened: merges nothing."""
    with workshop.target(tree) as (emerge, _):
        return planned(emerge, workshop.settings.sets, _options(workshop))


def told(outcome: Outcome) -> dict[str, Any]:
    """An outcome as data: a summary in words, and all that was done."""
    return {"summary": str(outcome), **outcome.as_json()}


def as_mark(facts: Mapping[str, Any]) -> str:
    """What was told as the text of a user property. What does not fit in is left out, and `left_out` names it."""
    facts = dict(facts)
    left_out: list[str] = []
    while (text := packed(facts)) is None:
        left_out.append(next(name for name in ("packages", "rebuilt", "failed", "breaks") if name in facts))
        del facts[left_out[-1]]
        facts["left_out"] = left_out
    return text


def _options(workshop: Workshop, trial: Trial | None = None, *, update: bool = False) -> Options:
    return Options(
        binaries=workshop.settings.binary != "never", trial=trial, memory=workshop.memory(),
        spare_builder=workshop.spare_builder, update=update,
    )  # fmt: skip
