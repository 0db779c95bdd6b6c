"""Where emerge runs: on a Gentoo host its own, elsewhere a throw-away clone of a builder root, under systemd-nspawn.

A builder root is unpacked once and kept as a snapshot; each build works in a clone of its own, so what build
dependencies bring into its `/` is gone afterwards, and costs little the next time, since binary packages are kept.
Nothing is ever merged into the `/` of a host that is no Gentoo.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.bootstrap.gentoo import Builder, Gentoo
from pipeline.build import Build
from pipeline.command import run
from pipeline.errors import InputError
from pipeline.gentoo import repositories
from pipeline.gentoo.store import opened
from pipeline.machine.nspawn import container
from pipeline.portage import Emerge, configuration
from pipeline.tarball import BUILDER, fetch, unpack
from pipeline.workspace import OWNER, locked, machine_name

TARGET = "/mnt/goldspawn"
"""Where a builder sees the tree into which it merges."""

_MEMORY_A_JOB = 2 << 30
"""Bytes of memory that one compiler may want (Gentoo's handbook, MAKEOPTS)."""


@contextlib.contextmanager
def building(build: Build, tree: Path, tars: Path) -> Iterator[Emerge]:
    """An `Emerge` that merges into `tree`; `tars` is where tars are kept.

    Raises `InputError` where the host is no Gentoo and no builder is named.
    """
    settings = build.image.bootstrap
    assert isinstance(settings, Gentoo)
    if settings.builder is None:
        raise InputError(
            "bootstrap.builder of image.toml: missing, and this host is no Gentoo",
            hint='name a stage3, as builder = { tarball = "stage3-….tar.xz", sha256 = "…" }',
        )
    with opened(build) as store, _clone(build, settings.builder, tars) as root:
        _configure(settings, root)
        known = repositories.folders(build, settings, root, store.repositories)
        configuration.check_profile(settings.profile, known, key="bootstrap.profile")
        binds = {
            TARGET: tree,
            str(configuration.DISTFILES): store.distfiles,
            str(configuration.PACKAGES): store.packages,
        }
        shown = {
            str(configuration.REPOSITORIES / name): folder
            for name, folder in known.items()
            if not folder.is_relative_to(root)
        }
        # nspawn mentions every capability that it cannot give; one that is killed would let its container live on.
        quiet = ["env", "SYSTEMD_LOG_LEVEL=warning", "setpriv", "--pdeathsig", "TERM", "--"]
        yield Emerge(
            TARGET,
            tree,
            builder=root,
            wrapper=(*quiet, *container(root, binds, shown), "--"),
            options=tuple(options(settings)),
            environment=environment(settings),
            log=build.log,
            slowness=build.place.slowness,
        )


def options(settings: Gentoo) -> list[str]:
    """emerge's options for what `[bootstrap]` says of binary packages and jobs."""
    packages = {"prefer": ["--usepkg"], "only": ["--usepkgonly"], "never": []}[settings.binary]
    return [*packages, "--binpkg-respect-use=y", f"--jobs={settings.jobs or _jobs()}", f"--load-average={_cores()}"]


def environment(settings: Gentoo) -> dict[str, str]:
    """What emerge gets said in its environment; FEATURES there is added to that of make.conf."""
    features = ["buildpkg", "binpkg-multi-instance", *(["getbinpkg"] if settings.binhosts else [])]
    return {
        "FEATURES": " ".join(features),
        "MAKEOPTS": settings.make_conf.get("MAKEOPTS", f"-j{_jobs()} -l{_cores()}"),
        # Configuration files are taken as packages bring them; what an image wants otherwise is in its root/.
        "CONFIG_PROTECT": "-*",
        "CLEAN_DELAY": "0",
        "EMERGE_WARNING_DELAY": "0",
    }


def _cores() -> int:
    """The processors that this build may use: those of the machine, shared among the workers of pytest-xdist."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _jobs() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(_cores(), round(memory / _MEMORY_A_JOB)))


def _configure(settings: Gentoo, root: Path) -> None:
    """Tells the builder's own Portage of the image's repositories: what BDEPEND names may come from them."""
    conf = configuration.files(settings.configuration()).get(configuration.ETC / "repos.conf" / "goldspawn.conf")
    if conf is not None:
        file = root / configuration.ETC / "repos.conf" / "goldspawn.conf"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(conf)


@contextlib.contextmanager
def _clone(build: Build, builder: Builder, tars: Path) -> Iterator[Path]:
    """A clone of the builder root, mounted; destroyed after the block."""
    origin = _origin(build, builder, tars)
    dataset = f"{build.place.layout.boots}/{machine_name(build.image.name)}.builder"
    build.zfs.clone(origin, dataset, marks=OWNER)
    try:
        with build.zfs.mounted(dataset, build.place.mountpoint(dataset)) as root:
            yield root
    finally:
        build.zfs.destroy(dataset)


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
        source = build.image.folder / builder.directory
        argv = ["cp", "--archive", "--one-file-system", f"{source}/.", str(tree)]
        run(argv, log=build.log, timeout=build.place.limit(600))
    else:
        slowness = build.place.slowness
        tar = fetch(build.image, BUILDER, folder=tars, max_age=math.inf, log=build.log, slowness=slowness)
        unpack(tar, tree, log=build.log, timeout=build.place.limit(300))
    if not any((tree / name).exists() for name in ("usr/bin/emerge", "usr/sbin/emerge")):
        raise InputError("bootstrap.builder of image.toml: that root has no emerge", hint="a stage3 tarball has one")


def _key(build: Build, builder: Builder) -> str:
    if builder.directory is None:
        return build.keys.builder
    tree = build.image.folder / builder.directory
    marks = sorted((str(path), path.lstat().st_mtime_ns) for path in tree.glob("var/db/pkg/*/*"))
    marks += sorted((str(path), path.lstat().st_mtime_ns) for path in (tree / "etc/portage").rglob("*"))
    return hashlib.sha256(json.dumps([str(tree), marks]).encode()).hexdigest()[:16]
