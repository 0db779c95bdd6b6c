"""Merging in plain folders: the machine outside of the appliance does it ten times faster than an emulated one.

What is merged and how stands in `merge`; here is where: a process that is root of namespaces of its own unpacks the
bootstrap and the builder root, merges, and packs the tree. It needs no root outside.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline import secrets
from pipeline.appliance import namespace
from pipeline.bootstrap.apart import pack
from pipeline.bootstrap.gentoo import Gentoo
from pipeline.command import BuildLog, run
from pipeline.errors import CommandFailed, GoldspawnError
from pipeline.gentoo.builder import BuilderRoot
from pipeline.gentoo.enter import chroot
from pipeline.gentoo.merge import merge_sets, told
from pipeline.gentoo.store import Store
from pipeline.image import Image, load
from pipeline.reuse.world import Source, as_text, from_text
from pipeline.scratch import scratch
from pipeline.tarball import BOOTSTRAP, BUILDER, MERGED, make, register, unpack

_LIMIT = 7 * 24 * 3600.0
"""Seconds that a whole merge may take; each emerge has a limit of its own."""

_RESULT, _WORLD = "result.json", "world.json"

_OWN_ATTRIBUTES = "" if Path("/proc/self/uid_map").read_text().split()[0:2] == ["0", "0"] else ",userxattr"
"""What overlays in a user namespace need: other attributes are for the real root."""


def possible(image: Image) -> bool:
    """Whether the image's sets can be merged without datasets: its builder is a tarball or a directory."""
    settings = image.bootstrap
    return isinstance(settings, Gentoo) and settings.builder is not None and settings.builder.image is None


def make_merged(image: Image, tar: Path, *, log: BuildLog, max_age: float, slowness: float) -> tuple[Source, ...]:
    """Writes the tree with the image's sets merged as `tar`, and beside it, as .json, how that went.

    Returns the commits of the repositories from which it was merged. Raises what `merge_sets` raises, as a
    `GoldspawnError` of the same words.
    """
    folder = tar.parent
    bootstrap = make(image, BOOTSTRAP, folder=folder, max_age=max_age, log=log, slowness=slowness)
    builder = "-"
    assert isinstance(image.bootstrap, Gentoo) and image.bootstrap.builder is not None
    if image.bootstrap.builder.directory is None:
        builder = str(make(image, BUILDER, folder=folder, max_age=math.inf, log=log, slowness=slowness))
    with scratch(tar) as work, secrets.opened(image, "git") as given:
        store = folder.parent / "portage"
        store.mkdir(exist_ok=True)
        words = [str(image.folder), str(bootstrap), builder, str(store), str(work), str(max_age), str(slowness)]
        words += [str(given.git)] if given.git is not None else []
        child = [sys.executable, "-m", "pipeline.gentoo", *words]
        try:
            run(namespace.inside(child, processes=True), log=log, timeout=_LIMIT, cwd=_HOME)
        except CommandFailed:
            if not (work / _RESULT).exists():
                raise
        result = json.loads((work / _RESULT).read_text())
        if "error" in result:
            log_path = f"\nwhole log: {log.path}" if log.path is not None else ""
            raise GoldspawnError(result["error"] + log_path, hint=result["hint"])
        world = from_text((work / _WORLD).read_text())
        assert world is not None
        (work / "root.tar").rename(tar)
        tar.with_suffix(".json").write_text(json.dumps(result))
    return world


_HOME = Path(__file__).parents[2]


def work_here(
    folder: str, bootstrap: str, builder: str, store: str, work: str, max_age: str, slowness: str, logins: str = ""
) -> int:
    """The process in the namespaces: merges, packs `work`/root.tar, and writes the result. Returns its exit status."""
    log = BuildLog(on_line=lambda line: print(line, flush=True))
    result = Path(work) / _RESULT
    try:
        image = load(Path(folder))
        assert isinstance(image.bootstrap, Gentoo) and image.bootstrap.builder is not None
        tree, root = Path(work) / "tree", Path(work) / "builder"
        for path in (tree, root):
            path.mkdir(mode=0o755)
        unpack(Path(bootstrap), tree, log=log, timeout=600 * float(slowness))
        if image.bootstrap.builder.directory is not None:
            source = image.folder / image.bootstrap.builder.directory
            run(["cp", "--archive", "--one-file-system", f"{source}/.", str(root)], log=log, timeout=600)
        else:
            unpack(Path(builder), root, log=log, timeout=600 * float(slowness))
        workshop = BuilderRoot(
            image, Store(Path(store)), log, float(slowness), float(max_age), root, chroot, copied,
            logins=Path(logins) if logins else None,
        )  # fmt: skip
        outcome = merge_sets(workshop, tree)
        (Path(work) / "root.tar").touch(mode=0o600)  # it holds /etc/shadow
        pack(tree, Path(work) / "root.tar", log=log, timeout=600 * float(slowness))
        (Path(work) / _WORLD).write_text(as_text(workshop.sources()))
        result.write_text(json.dumps(told(outcome)))
    except CommandFailed as error:
        result.write_text(json.dumps({"error": str(error), "hint": None}))
        return 1
    except GoldspawnError as error:
        result.write_text(json.dumps({"error": error.message, "hint": error.hint}))
        return 1
    return 0


@contextlib.contextmanager
def copied(tree: Path) -> Iterator[Path]:
    """A throw-away copy of a tree, beside it: an overlay, or where the kernel refuses that, all of its files.

    The tree must not be changed meanwhile.
    """
    with tempfile.TemporaryDirectory(prefix="trial-", dir=tree.parent) as made:
        copy = Path(made) / "tree"
        for path in (copy, Path(made, "upper"), Path(made, "work")):
            path.mkdir(mode=0o755)
        # Paths are relative, since colons and commas have a meaning in these options.
        layers = f"lowerdir=../{tree.name},upperdir=upper,workdir=work{_OWN_ATTRIBUTES}"
        try:
            run(["mount", "-t", "overlay", "overlay", "-o", layers, "tree"], timeout=60, cwd=Path(made))
        except CommandFailed:
            run(["cp", "--archive", "--reflink=auto", "--one-file-system", f"{tree}/.", str(copy)], timeout=600)
            yield copy
            return
        try:
            yield copy
        finally:
            run(["umount", str(copy)], timeout=60)


register(MERGED, make_merged)
