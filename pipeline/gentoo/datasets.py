"""Workshops on datasets: where there is ZFS and systemd, a throw-away clone of the builder root, under systemd-nspawn.

A builder root is unpacked once and kept as a snapshot; each build works in a clone of its own, so what build
dependencies bring into its `/` is gone afterwards, and costs little the next time, since binary packages are kept.
Nothing is ever merged into the `/` of a host that is no Gentoo.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipeline import throwaway
from pipeline.bootstrap.gentoo import Builder, Gentoo
from pipeline.build import Build
from pipeline.command import run
from pipeline.errors import InputError
from pipeline.gentoo import host
from pipeline.gentoo.builder import BuilderRoot
from pipeline.gentoo.enter import nspawn
from pipeline.gentoo.host import HostPortage
from pipeline.gentoo.store import Store
from pipeline.gentoo.workshop import Workshop
from pipeline.locks import locked
from pipeline.reuse.inputs import keys
from pipeline.tarball import BUILDER, fetch, unpack
from pipeline.throwaway import OWNER, copied, machine_name


@contextlib.contextmanager
def workshop(build: Build, tars: Path) -> Iterator[Workshop]:
    """A workshop for the image: its builder root, or this host if that is a Gentoo; `tars` is where tars are kept.

    Raises `InputError` where no builder is named, and this host is none.
    """
    settings = build.image.bootstrap
    assert isinstance(settings, Gentoo)
    shared = build.log, build.place.slowness, build.wishes.policy.age("cycles")
    copy = partial(copied, image=build.image.name, place=build.place, zfs=build.zfs)
    if settings.builder is not None:
        with _store(build) as store, _clone(build, settings.builder, tars) as root:
            yield BuilderRoot(build.image, store, *shared, root, nspawn, copy, logins=build.secrets.git)
        return
    if (emerge := host.here()) is None:
        raise InputError(
            "bootstrap.builder of image.toml: missing, and this host is no Gentoo",
            hint='name a stage3, as builder = { tarball = "stage3-….tar.xz", sha256 = "…" }',
        )
    with _store(build) as store:
        yield HostPortage(build.image, store, *shared, emerge, copy, logins=build.secrets.git)


@contextlib.contextmanager
def _store(build: Build) -> Iterator[Store]:
    """The store of this place, mounted; other runs may have it mounted at the same time."""
    dataset = build.place.layout.portage
    with build.zfs.mounted(dataset, build.place.mountpoint(dataset)) as folder:
        yield Store(folder)


@contextlib.contextmanager
def _clone(build: Build, builder: Builder, tars: Path) -> Iterator[Path]:
    """A clone of the builder root, mounted; destroyed after the block."""
    origin = _origin(build, builder, tars)
    with throwaway.clone(origin, f"{machine_name(build.image.name)}.builder", build.place, build.zfs) as root:
        yield root


def _origin(build: Build, builder: Builder, tars: Path) -> str:
    """The snapshot of the builder root, made now if it is not there."""
    zfs, layout = build.zfs, build.place.layout
    if builder.image is not None:
        entries = (
            zfs.entries(f"{layout.golden}/{builder.image}") if zfs.exists(f"{layout.golden}/{builder.image}") else []
        )
        golden = [entry.name for entry in entries if entry.properties.get("stage") == "candidate"]
        if not golden:
            raise InputError(
                f'bootstrap.builder.image of image.toml: image "{builder.image}" has no golden snapshot here',
                hint=f"build it first: pytest --image {builder.image}",
            )
        return golden[-1]
    key = _key(build, builder)
    dataset = f"{layout.builders}/{key}"
    with locked(build.place.lock(f"builder-{key}"), f"builder {key}", build.log.line):
        if any(entry.name == f"{dataset}@tree" for entry in zfs.entries(layout.builders)):
            return f"{dataset}@tree"
        zfs.destroy(dataset)  # what a killed run left
        zfs.create(dataset, properties={"compression": "lz4"}, marks=OWNER)
        try:
            with zfs.mounted(dataset, build.place.mountpoint(dataset)) as tree:
                _fill(build, builder, tree, tars)
            zfs.snapshot(f"{dataset}@tree", marks=OWNER)
        except BaseException:
            zfs.destroy(dataset)
            raise
    return f"{dataset}@tree"


def _fill(build: Build, builder: Builder, tree: Path, tars: Path) -> None:
    if builder.directory is not None:
        source = build.image.foundation.folder / builder.directory
        argv = ["cp", "--archive", "--one-file-system", f"{source}/.", str(tree)]
        run(argv, log=build.log, timeout=build.place.limit(600))
    else:
        slowness = build.place.slowness
        tar = fetch(build.image.foundation, BUILDER, folder=tars, max_age=math.inf, log=build.log, slowness=slowness)
        unpack(tar, tree, log=build.log, timeout=build.place.limit(300))


def _key(build: Build, builder: Builder) -> str:
    if builder.directory is None:
        return keys(build.image.foundation).builder
    tree = build.image.foundation.folder / builder.directory
    marks = sorted((str(path), path.lstat().st_mtime_ns) for path in tree.glob("var/db/pkg/*/*"))
    marks += sorted((str(path), path.lstat().st_mtime_ns) for path in (tree / "etc/portage").rglob("*"))
    return hashlib.sha256(json.dumps([str(tree), marks]).encode()).hexdigest()[:16]
