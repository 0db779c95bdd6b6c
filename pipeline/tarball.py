"""Where a bootstrap's tar is made and kept: by the outer machine when this one is its appliance, else here.

What a bootstrap is stands in one place, the method's `make`. Emulated, it takes ten times as long, so a session in
the appliance asks the process that started it to run that very function (facts/appliance.md).
"""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from pipeline import bootstrap, channel, secrets
from pipeline.channel import INSIDE
from pipeline.command import BuildLog, run
from pipeline.errors import GoldspawnError
from pipeline.image import Image, load
from pipeline.reuse.inputs import keys
from pipeline.reuse.world import Source, as_text, from_text, moved
from pipeline.zfs import FULL, room_explained

ERRAND = "bootstrap"
BOOTSTRAP, BUILDER, MERGED = "bootstrap", "builder", "merged"
"""The tars that an image can need: its root file system as its method leaves it, the root which builds packages for it,
and its root file system with all of those merged."""

KEPT = 14 * 86400.0
"""Seconds for which a tar is kept that nobody asks for."""


class Maker(Protocol):
    """What writes one kind of tar, whole or not at all; packages in it are at most `max_age` seconds old.

    Returns what those came from, None where the tar itself tells.
    """

    def __call__(
        self, image: Image, tar: Path, *, log: BuildLog, max_age: float, slowness: float
    ) -> tuple[Source, ...] | None: ...


_MAKERS: dict[str, Maker] = {}


def register(part: str, maker: Maker) -> None:
    """Makes known what writes a kind of tar."""
    _MAKERS[part] = maker


def fetch(image: Image, part: str = BOOTSTRAP, *, folder: Path, max_age: float, log: BuildLog, slowness: float) -> Path:
    """A root file system of the image's as a tar: one that is there and holds, or a new one.

    One holds that is less than `max_age` seconds old, or whose world has not moved; none, with a `max_age` below 0.
    `folder` keeps the tars. Raises what the method raises.
    """
    tar = ask(image, part, max_age=max_age, log=log)
    return tar or make(image, part, folder=folder, max_age=max_age, log=log, slowness=slowness)


def ask(image: Image, part: str, *, max_age: float, log: BuildLog) -> Path | None:
    """The tar, made by the outer machine; None if there is none, or it cannot make that."""
    if INSIDE not in os.environ or not channel.available():
        return None
    age = min(max_age, 1e12)  # JSON knows no infinity
    message = {"kind": ERRAND, "image": str(image.folder), "part": part, "max_age": age, "log": str(log.path)}
    answer = channel.ask(message)
    return Path(answer["tar"]) if "tar" in answer else None


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
    part = str(message["part"])
    if part not in _MAKERS:
        return {}
    tar = make(image, part, folder=folder, max_age=float(message["max_age"]), log=log, slowness=1.0)
    return {"tar": str(tar)}


def make(image: Image, part: str, *, folder: Path, max_age: float, log: BuildLog, slowness: float) -> Path:
    """As `fetch`, on this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    known = keys(image)
    tar = folder / f"{dict(zip((BOOTSTRAP, BUILDER, MERGED), known.of_tars, strict=True))[part]}.tar"
    with FileLock(tar.with_suffix(".lock")):
        for old in folder.glob("*.tar"):
            if old != tar and time.time() - old.stat().st_mtime > KEPT:
                _forget(old)
        if tar.exists() and _holds(image, tar, max_age):
            log.line(f"{part}: reuses {tar.name}")
            return tar
        _forget(tar)
        unseen = image.bootstrap.unseen() if part == MERGED else ()  # before: it may change in the middle
        started = time.monotonic()
        known_to_it = _MAKERS[part](image, tar, log=log, max_age=max_age, slowness=slowness)
        if not tar.exists():
            raise GoldspawnError(f"bootstrap method {image.bootstrap.method} made no {tar}")
        world = _world(image, tar) if known_to_it is None else known_to_it
        _beside(tar).write_text(as_text((*world, *unseen)))
        log.line(f"{part}: {tar.stat().st_size / 1e6:.0f} MB in {time.monotonic() - started:.0f} s")
    return tar


def _beside(tar: Path) -> Path:
    """The file that says which world a tar was drawn from."""
    return tar.with_suffix(".world")


def drawn_from(tar: Path) -> tuple[Source, ...]:
    """The world from which a tar was drawn; what nobody knows counts as moved the next time."""
    known = from_text(_beside(tar).read_text()) if _beside(tar).exists() else None
    return (Source("age", tar.name),) if known is None else known


def _forget(tar: Path) -> None:
    for path in (_beside(tar), tar):
        path.unlink(missing_ok=True)


def _holds(image: Image, tar: Path, max_age: float) -> bool:
    """Whether a tar will do. Its time is when its world was last seen to be that of the repositories."""
    if max_age < 0:
        return False
    if 0 <= time.time() - tar.stat().st_mtime < max_age:  # one that a wrong clock dated into the future is looked at
        return True
    with secrets.opened(image, "apt", "git"):  # to look takes a login, where to fetch does
        stale = bool(moved(drawn_from(tar)))
    if stale:
        return False
    os.utime(tar)
    return True


def _world(image: Image, tar: Path) -> tuple[Source, ...]:
    """What the packages of a tar came from: told by the few files in it that its package manager keeps."""
    with tempfile.TemporaryDirectory(prefix="goldspawn-world-") as folder, tarfile.open(tar) as archive:
        for member in archive:
            if member.isfile() and _TELLING.fullmatch(member.name):
                file = Path(folder) / member.name
                file.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content is not None
                file.write_bytes(content.read())
                os.utime(file, (member.mtime, member.mtime))  # an index's time is its server's
        return image.bootstrap.world(Path(folder))


_TELLING = re.compile(r"(\./)?(etc/apt/sources\.list.*|var/lib/apt/lists/[^/]*Release)")


def _bootstrap(image: Image, tar: Path, *, log: BuildLog, max_age: float, slowness: float) -> None:
    method = _method(image)
    with secrets.opened(image, "apt") as given:
        method.make(image.bootstrap, tar, log=log, base=image.folder, slowness=slowness, logins=given.logins)


def _builder(image: Image, tar: Path, *, log: BuildLog, max_age: float, slowness: float) -> None:
    method = _method(image)
    method.make_builder(image.bootstrap, tar, log=log, base=image.folder, slowness=slowness)


def _method(image: Image) -> bootstrap.Method[Any]:
    method = bootstrap.get(image.bootstrap.method)
    if error := bootstrap.missing_tools(method):
        raise error
    return method


register(BOOTSTRAP, _bootstrap)
register(BUILDER, _builder)
