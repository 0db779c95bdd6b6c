"""Sets and atoms merged into an image's tree, with every cycle opened and mended on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.errors import InputError
from pipeline.gentoo.workshop import Workshop
from pipeline.portage import Emerge, Options, Outcome, Plan, Trial, resolve
from pipeline.portage import plan as planned
from pipeline.portage.installed import installed
from pipeline.portage.memory import Unfinished
from pipeline.portage.rebuild import half
from pipeline.portage.stacked import stacked

MARK = "cycles"
"""The user property of a snapshot in which it stands how the cycles were opened, for the manifest."""

_ROOM = 8000
"""Characters that a user property may have (zfsprops(7): 8192 bytes)."""


def merge_sets(workshop: Workshop, tree: Path) -> Outcome:
    """Merges the image's sets into `tree`, which holds the configuration of a target and perhaps a stage3.

    Raises `Unbreakable`, `CommandFailed`, `CheckFailed` and `InputError` as `pipeline.portage.resolve` does.
    """
    with workshop.target(tree) as (emerge, trial):
        if workshop.settings.first_pass == "nodeps":
            # Everything in, unordered; then again, in order, against what is there.
            emerge.merge("--nodeps", "--oneshot", "--buildpkg=n", "@system")
            emerge.merge("--oneshot", "--usepkg=n", "@system")
        elif workshop.settings.first_pass == "packages.build":
            _merge_packages_build(workshop, emerge, trial)
        outcome = resolve(emerge, workshop.settings.sets, _options(workshop, trial), say=workshop.log.line)
        emerge.merge("--depclean", "--with-bdeps=n")
        emerge.merge("@preserved-rebuild")
        _refuse_offers(workshop, emerge)
    return outcome


def _merge_packages_build(workshop: Workshop, emerge: Emerge, trial: Trial | None) -> None:
    """Merges what the profile's packages.build names, with hardly a flag set, as catalyst makes its stage1.

    All of it counts as incomplete: it is built again, as configured, once the sets are merged.
    """
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
    began = int(time.time())
    before = set(installed(emerge.seen))
    resolve(small, names, _options(workshop, trial), say=workshop.log.line)
    fresh = [entry.package for cpv, entry in installed(emerge.seen).items() if cpv not in before]
    unfinished = Unfinished.of(emerge, "target")
    unfinished.add(fresh, now=began)
    for package in fresh:
        unfinished.seen(half(emerge, package))


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


def as_mark(outcome: Outcome) -> str:
    """An outcome as the text of a user property, without what does not fit in."""
    told = {"summary": str(outcome), **outcome.as_json()}
    text = json.dumps(told)
    if len(text) > _ROOM:
        text = json.dumps({**told, "rebuilt": [], "failed": []})
    return text if len(text) <= _ROOM else json.dumps({**told, "rebuilt": [], "failed": [], "breaks": []})


def _options(workshop: Workshop, trial: Trial | None = None) -> Options:
    return Options(
        binaries=workshop.settings.binary != "never", trial=trial, memory=workshop.memory(),
        spare_builder=workshop.spare_builder,
    )  # fmt: skip
