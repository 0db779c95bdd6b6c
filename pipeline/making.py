"""From nothing to a sealed candidate: what the first four stages do, for an image and for the bases that it stands on.

Each function does one stage in an open workspace, and notes in the build what it did. pytest's fixtures call them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.bases import red_base
from pipeline.build import Build, open_build
from pipeline.errors import CheckFailed
from pipeline.profile import Pool, apply, packages, seal
from pipeline.reuse.marks import unpacked
from pipeline.secrets import nowhere_in
from pipeline.tarball import MERGED, ask, drawn_from, fetch, unpack
from pipeline.workspace import Workspace, open_workspace


class PlannedOnly(Exception):
    """The user asked how build cycles would be opened: the message says it, and nothing was merged."""


def open_for(build: Build) -> Workspace:
    """The image's workspace, locked; its owner closes it. Raises as `open_workspace`."""
    policy = build.wishes.policy
    if build.wishes.plan and not policy.refuses("cycles"):  # whatever was merged before
        policy = replace(policy, rebuild="cycles")
    workspace = open_workspace(build.image, build.place, build.keys, build.zfs, policy=policy, wait=build.log.line)
    start = workspace.start.stage.replace("candidate", "profile")
    build.notes["dataset"] = f"starts after {start}" if start else "starts from nothing"
    return workspace


def bootstrap(build: Build, workspace: Workspace) -> None:
    """A root file system as the distribution leaves it, or the candidate of the image's base.

    Raises `PlannedOnly` where that was the wish and there is nothing to plan.
    """
    if build.wishes.plan:
        if build.image.base is not None:
            raise PlannedOnly(f"it stands on {build.image.base.name}, whose sets are merged there")
        if build.image.bootstrap.whole:
            raise PlannedOnly("no cycles: packages are binary")
    if reused := workspace.reused("bootstrap"):
        build.notes["bootstrap"] = reused
    elif build.image.base is not None:
        _base(build, workspace)
    else:
        with workspace.making("bootstrap", build.log.line) as made:
            if not made:
                _bootstrap(build, workspace)
        build.notes.setdefault("bootstrap", "reused (another run has just made it)")


def _bootstrap(build: Build, workspace: Workspace) -> None:
    tar = fetch(
        build.image, folder=build.wishes.tars, max_age=build.wishes.policy.age("bootstrap"), log=build.log,
        slowness=build.place.slowness,
    )  # fmt: skip
    # Compression never makes a root file system smaller than a third.
    build.zfs.check_room(build.place.layout.bootstraps, tar.stat().st_size // 3)
    with workspace.filling("bootstrap") as layer:
        layer.current = tar.stat().st_mtime
        unpack(tar, layer.tree, log=build.log, timeout=build.place.limit(300))
    build.notes["bootstrap"] = build.image.bootstrap.summary + workspace.why("bootstrap")


def _base(build: Build, workspace: Workspace) -> None:
    """The candidate of the base, made first where that is due; kept from then on while this image is worked on.

    The log is this image's: the base's own tells of its own build. Raises `CheckFailed` if it failed in this session.
    """
    base = build.image.base
    assert base is not None
    with open_build(base, build.place, build.wishes, log=build.log) as below:
        theirs = open_for(below)
        try:
            if red := red_base(build.image, build.place, since=build.wishes.policy.since):
                raise CheckFailed(
                    red, hint=f"mend that first; a run without it builds on it unverified: --image {build.image.name}"
                )
            candidate(below, theirs)
            workspace.stand_on(theirs.candidate, theirs.told(theirs.candidate))
        finally:
            theirs.close()
    how = theirs.reused("candidate") or f"made{theirs.why('candidate')}"
    build.notes["bootstrap"] = f"from {base.name}, {how}"


def cycles(build: Build, workspace: Workspace) -> None:
    """All merged that the bootstrap itself does not bring. Raises `PlannedOnly`, where that was the wish."""
    if build.image.base is not None:
        build.notes["cycles"] = "none: its base has what it needs"
    elif build.image.bootstrap.whole:
        build.notes["cycles"] = "none: packages are binary"
    elif reused := workspace.reused("cycles"):
        build.notes["cycles"] = reused
    else:
        with workspace.making("cycles", build.log.line) as made:
            if not made:
                _merge_sets(build, workspace)
        build.notes.setdefault("cycles", "reused (another run has just made it)")


def _merge_sets(build: Build, workspace: Workspace) -> None:
    from pipeline import gentoo  # slow to import, and needed for Gentoo only

    if build.wishes.plan:
        with workspace.looking() as tree, gentoo.workshop(build, build.wishes.tars) as workshop:
            raise PlannedOnly(str(gentoo.plan(workshop, tree)))
    unseen = build.image.bootstrap.unseen()  # before the merge: it may change in the middle
    tar = ask(build.image, MERGED, max_age=build.wishes.policy.age("cycles"), log=build.log)
    with workspace.filling("cycles", anew=tar is not None) as layer:
        if tar is not None:
            unpack(tar, layer.tree, log=build.log, timeout=build.place.limit(600))
            told = json.loads(tar.with_suffix(".json").read_text())
            layer.world = drawn_from(tar)
            layer.current = tar.stat().st_mtime
        else:
            with gentoo.workshop(build, build.wishes.tars) as workshop:
                told = gentoo.told(gentoo.merge_sets(workshop, layer.tree))
                layer.world = (*workshop.sources(), *unseen)
        layer.marks[gentoo.MARK] = gentoo.as_mark(told)
    build.notes["cycles"] = told["summary"] + workspace.why("cycles")


def profile(build: Build, workspace: Workspace) -> None:
    """The tree made the machine that image.toml describes, and sealed.

    Its packages end in a layer of their own: they cost most, and seldom change.
    """
    if reused := workspace.reused("candidate"):
        build.notes["profile"] = reused
        return
    named = build.image.profile.packages
    if named and not workspace.reused("packages"):
        with workspace.making("packages", build.log.line) as made:
            if not made:
                below = workspace.told(workspace.layer)
                with workspace.filling("packages") as layer:
                    layer.marks.update(_install(build, layer.tree, below))
    with workspace.fill_tree() as tree:
        secrets = build.secrets.files("run")
        apply(build.image, tree, secrets=secrets, log=build.log, slowness=build.place.slowness)
        seal(tree, log=build.log)
        nowhere_in(tree, build.secrets, build.log)
    count = f"{len(named)} package{'s' if len(named) != 1 else ''}"
    kept = f"{count} {workspace.reused('packages') or 'installed'}, " if named else ""
    build.notes["profile"] = f"{kept}sealed" + workspace.why("candidate")


def _install(build: Build, tree: Path, below: Mapping[str, str]) -> dict[str, str]:
    """Installs the profile's packages; returns marks for their layer. `below` are those of the layer beneath."""
    if build.image.bootstrap.whole:
        # The lists that the bootstrap left are of what the repositories have, or as old as the user's --frozen allows.
        world = build.image.bootstrap.world(tree)
        packages.install(
            tree, build.image.profile.packages, pool=Pool(build.wishes.packages), log=build.log,
            slowness=build.place.slowness, logins=build.secrets.logins,
            current=bool(world) and all(source.kind == "index" for source in world),
        )  # fmt: skip
        return {}
    from pipeline import gentoo

    with gentoo.workshop(build, build.wishes.tars) as workshop:
        outcome = gentoo.merge_packages(workshop, tree, build.image.profile.packages)
    facts = unpacked(below.get(gentoo.MARK)) or {}
    return {gentoo.MARK: gentoo.as_mark({**facts, "packages": gentoo.told(outcome)})} if outcome.breaks else {}


def candidate(build: Build, workspace: Workspace) -> None:
    """All four stages, for an image of which no more than its candidate is wanted."""
    for name, stage in (("bootstrap", bootstrap), ("cycles", cycles), ("profile", profile)):
        with build.stage(name):
            stage(build, workspace)
