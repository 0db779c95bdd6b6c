"""Where a bootstrap's tar is made and kept: by the outer machine when this one is its appliance, else here.

What a bootstrap is stands in one place, the method's `make`. Emulated, it takes ten times as long, so a session in
the appliance asks the process that started it to run that very function (facts/appliance.md).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from filelock import FileLock

from pipeline import bootstrap, channel
from pipeline.command import BuildLog, run
from pipeline.errors import GoldspawnError
from pipeline.image import Image, load
from pipeline.inputs import keys
from pipeline.zfs import FULL, room_explained

ERRAND = "bootstrap"
BOOTSTRAP, BUILDER = "bootstrap", "builder"
"""The tars that an image can need: its root file system, and that of the root which builds it."""

INSIDE = "GOLDSPAWN_INSIDE"
"""Set in a session that runs inside the appliance: the folder it shares with the outer machine."""


def fetch(image: Image, part: str = BOOTSTRAP, *, folder: Path, max_age: float, log: BuildLog, slowness: float) -> Path:
    """A root file system of the image's as a tar: one of at most `max_age` seconds, or a new one.

    `folder` keeps the tars. Raises what the method raises.
    """
    if INSIDE in os.environ and channel.available():
        age = min(max_age, 1e12)  # JSON knows no infinity
        message = {"kind": ERRAND, "image": str(image.folder), "part": part, "max_age": age, "log": str(log.path)}
        answer = channel.ask(message)
        if "tar" in answer:
            return Path(answer["tar"])
    return _make(image, part, folder=folder, max_age=max_age, log=log, slowness=slowness)


def unpack(tar: Path, tree: Path, *, log: BuildLog, timeout: float) -> None:
    """Unpacks a root file system, with owners, extended attributes, ACLs and devices. `timeout` is in seconds."""
    argv = ["tar", "--extract", "--preserve-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*",
            "--acls", f"--file={tar}", f"--directory={tree}"]  # fmt: skip
    with room_explained():
        run(argv, log=log, timeout=timeout, hopeless=FULL)


def run_errand(message: channel.Message, *, folder: Path, log: BuildLog) -> channel.Message:
    """The outer machine's side: makes the tar that a session in the appliance asks for.

    The image is read again from its folder, so nothing that a guest says is ever run. Answers without a tar where
    that folder is the guest's own, or the method needs a root that we are not: the appliance then makes it by itself.
    """
    folder_outside = Path(message["image"])
    if not folder_outside.is_dir():
        return {}
    image = load(folder_outside)
    if not bootstrap.get(image.bootstrap.method).unprivileged and os.geteuid() != 0:
        return {}
    part = BUILDER if message["part"] == BUILDER else BOOTSTRAP
    tar = _make(image, part, folder=folder, max_age=float(message["max_age"]), log=log, slowness=1.0)
    return {"tar": str(tar)}


def _make(image: Image, part: str, *, folder: Path, max_age: float, log: BuildLog, slowness: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    key = keys(image).builder if part == BUILDER else keys(image).bootstrap
    tar = folder / f"{key}.tar"
    with FileLock(tar.with_suffix(".lock")):
        for old in folder.glob("*.tar"):
            if time.time() - old.stat().st_mtime > max(max_age, 86400.0):
                old.unlink(missing_ok=True)
        if tar.exists() and time.time() - tar.stat().st_mtime < max_age:
            log.line(f"{part}: reuses {tar.name}")
            return tar
        method = bootstrap.get(image.bootstrap.method)
        if error := bootstrap.missing_tools(method):
            raise error
        started = time.monotonic()
        make = method.make_builder if part == BUILDER else method.make
        make(image.bootstrap, tar, log=log, base=image.folder, slowness=slowness)
        if not tar.exists():
            raise GoldspawnError(f"bootstrap method {method.name} made no {tar}")
        log.line(f"{part}: {tar.stat().st_size / 1e6:.0f} MB in {time.monotonic() - started:.0f} s")
    return tar
