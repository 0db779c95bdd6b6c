"""What the tests of goldspawn itself share: small images made on the spot, and whole sessions run on them.

Tests that take `place` run in the appliance where there is no ZFS. A session that they start runs in place there, as
one of a user on a native host would.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from pipeline.appliance import missing_tools, recipe
from pipeline.appliance.store import Store
from pipeline.build import Wishes, open_build
from pipeline.channel import INSIDE
from pipeline.command import SILENT
from pipeline.image import load
from pipeline.place import Place
from pipeline.reuse.plan import Policy
from pipeline.tarball import fetch, unpack
from pipeline.user_cache import default_cache, exchange
from pipeline.workspace import open_workspace
from pipeline.zfs import Zfs
from tests.warm import Child, Warm

REPOSITORY = Path(__file__).parent.parent

SMALL = """
description = "a small machine"
[bootstrap]
suite = "trixie"
"""
"""An image.toml whose bootstrap is that of the images in tests/images, so that it is made once for all."""


@cache
def code() -> dict[str, str]:
    """The environment in which sessions find goldspawn: in the appliance a copy, with its byte code.

    Each look at a shared folder costs the outer machine's time: a session starts in half the time from a copy.
    """
    if INSIDE not in os.environ:
        return {"PYTHONPATH": str(REPOSITORY)}
    local = Path(tempfile.mkdtemp(prefix="goldspawn-code-"))
    for name in ("pipeline", "stages"):
        shutil.copytree(REPOSITORY / name, local / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", local)
    # Others write into the shared byte code at the same time: a file that goes while it is copied is no loss.
    with contextlib.suppress(shutil.Error, OSError):
        shutil.copytree(os.environ["PYTHONPYCACHEPREFIX"], local / "pycache")
    return {"PYTHONPATH": str(local), "PYTHONPYCACHEPREFIX": str(local / "pycache")}


@cache
def _warm() -> Warm:
    return Warm({**_outer(), **code(), "PYTHONUNBUFFERED": "1"})


def _outer() -> dict[str, str]:
    """The environment without what was meant for the session that runs the tests."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("GOLDSPAWN_", "PYTEST_"))}


@dataclass(frozen=True)
class Session:
    """A pytest session that ended: its exit status and all that it printed."""

    status: int
    output: str

    def outcome(self, check: str) -> str:
        """What `-v` printed behind a check, such as PASSED; "" if it did not run."""
        found = re.search(rf"::{re.escape(check)} +([A-Z]+)", self.output)
        return found[1] if found else ""

    def outcomes(self, word: str) -> list[str]:
        """The checks behind which `-v` printed this word."""
        return re.findall(rf"::(\S+) +{word}\b", self.output)


@dataclass(frozen=True)
class Struck(Session):
    """A session that got a signal: the process it was, and the seconds that it still lived."""

    pid: int
    seconds: float


class Sessions:
    """Runs sessions on images below `folder`, with artifacts in `artifacts`."""

    def __init__(self, folder: Path) -> None:
        self.images = folder / "images"
        self.artifacts = folder / "artifacts"
        self.images.mkdir()

    def image(self, name: str, definition: str = SMALL, *, tests: str = "", root: dict[str, str] | None = None) -> Path:
        """Makes the folder of an image."""
        folder = self.images / name
        folder.mkdir(exist_ok=True)
        (folder / "image.toml").write_text(textwrap.dedent(definition))
        if tests:
            (folder / f"test_{name.replace('-', '_')}.py").write_text(textwrap.dedent(tests))
        for path, text in (root or {}).items():
            file = folder / "root" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))
        return folder

    def command(self, *args: str, env: dict[str, str] | None = None) -> tuple[list[str], dict[str, str]]:
        """The command of a session of its own, as a user would type it in `images`, and its environment."""
        kept = {key: os.environ[key] for key in ("GOLDSPAWN_CACHE",) if key in os.environ}
        if INSIDE in os.environ:  # tars that were fetched from outside are found by a session that has no outside
            kept["GOLDSPAWN_CACHE"] = str(exchange().parent)
        # Most tests are of something else than updates of packages, which could come at any moment.
        usual = {} if "--collect-only" in args else {"GOLDSPAWN_MAX_AGE": "24", "GOLDSPAWN_NO_REPORT": "yes"}
        env = {**usual, **(env or {})}
        plugins = ["-p", "pipeline.plugin", "-p", "stages", "-p", "no:cacheprovider"]
        # Who names an image's file, or a check in it, as seen from `images`, wants nothing else collected.
        named = any(arg[:1] not in "-/" and (self.images / arg.split("::", 1)[0]).is_file() for arg in args)
        all_images = [] if named else [f"--images={self.images}"]
        argv = [sys.executable, "-m", "pytest", *plugins, "-v", *all_images, f"--artifacts={self.artifacts}", *args]
        return argv, {**_outer(), **kept, **code(), "PYTHONUNBUFFERED": "1", **env}

    def start(self, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen[str] | Child:
        """Starts a session; its output comes through a pipe."""
        argv, environment = self.command(*args, env=env)
        if INSIDE in os.environ and not any(name.startswith("PYTHON") for name in env or {}):
            return _warm().start(argv[3:], environment, self.images)
        return subprocess.Popen(
            argv, cwd=self.images, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
            # A shell starts what runs in the background with Ctrl-C ignored, and CI may run there.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            env=environment,
        )  # fmt: skip

    def run(self, *args: str, env: dict[str, str] | None = None, limit: float = 600.0) -> Session:
        """Runs a session to its end; `limit` is in seconds."""
        process = self.start(*args, env=env)
        try:
            output, _ = process.communicate(timeout=limit)
        finally:
            process.kill()
        return Session(process.returncode, output)

    def strike(
        self,
        check: str,
        sign: signal.Signals,
        *args: str,
        until: Callable[[int], bool] | None = None,
        after: float = 0.5,
        env: dict[str, str] | None = None,
    ) -> Struck:
        """Runs a session until `check` has begun and `until(pid)` is true, and `after` seconds more; then signals it.

        Ctrl-C goes to all of its foreground processes, as a terminal would send it; another signal to pytest alone.
        """
        process = self.start(*args, env=env)
        watchdog = threading.Timer(400, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            seen: list[str] = []
            while letter := process.stdout.read(1):
                seen.append(letter)
                if letter == " " and "".join(seen[-len(check) - 3 :]) == f"::{check} ":
                    break
            deadline = time.monotonic() + 120
            while until is not None and not until(process.pid):
                assert process.poll() is None and time.monotonic() < deadline, (
                    f"{check} never came so far: {''.join(seen)}"
                )
                time.sleep(0.05)
            time.sleep(after)  # into the middle of what the check does
            if sign == signal.SIGINT:
                os.killpg(process.pid, sign)
            else:
                process.send_signal(sign)
            struck = time.monotonic()
            # Not communicate(): what read() has buffered would be lost to it. The watchdog is the limit.
            seen.append(process.stdout.read())
            return Struck(process.wait(60), "".join(seen), process.pid, time.monotonic() - struck)
        finally:
            watchdog.cancel()
            process.kill()


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    """Sessions on images of the test's own."""
    return Sessions(tmp_path)


@pytest.fixture(scope="session")
def bootstrapped(place: Place) -> Iterator[Place]:
    """The place, with the bootstrap of `SMALL` in it: made by the fast way, before sessions in place need it."""
    exchange().mkdir(parents=True, exist_ok=True)
    # Where the outer machine sees it as well: it makes the tar, and reads the image for that.
    with tempfile.TemporaryDirectory(prefix="bootstrapped-", dir=exchange()) as made:
        folder = Path(made)
        small = Sessions(folder).image("bootstrapped")
        _provide_bootstrap(small, folder, place)
    yield place


def _provide_bootstrap(small: Path, folder: Path, place: Place) -> None:
    with open_build(load(small), place, Wishes(folder / "artifacts", exchange())) as build:
        workspace = open_workspace(
            build.image, place, build.keys, build.zfs, policy=Policy(max_age=40000.0), wait=print
        )
        try:
            if not workspace.start.holds("bootstrap"):
                tar = fetch(
                    build.image, folder=exchange() / "tars", max_age=40000.0, log=build.log, slowness=place.slowness
                )
                with workspace.filling("bootstrap") as layer:
                    unpack(tar, layer.tree, log=build.log, timeout=place.limit(300))
        finally:
            workspace.close()


@pytest.fixture(scope="session")
def small_tar(bootstrapped: Place) -> Path:
    """The tar of the bootstrap of `SMALL`, for sessions that have to unpack one themselves."""
    with tempfile.TemporaryDirectory(prefix="small-", dir=exchange()) as made:
        folder = Path(made)
        small = load(Sessions(folder).image("small"))
        with open_build(small, bootstrapped, Wishes(folder / "artifacts", exchange())) as build:
            tars = exchange() / "tars"
            return fetch(small, folder=tars, max_age=40000.0, log=build.log, slowness=bootstrapped.slowness)


@pytest.fixture(scope="module")
def small_tree(bootstrapped: Place, small_tar: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The root file system of `SMALL`'s bootstrap on ZFS, mounted; gone after the module's tests."""
    # Named by the module: another worker may be at another module that has one.
    zfs, dataset = Zfs(), f"{bootstrapped.layout.boots}/small-tree-{request.path.stem}"
    zfs.destroy(dataset)
    zfs.create(dataset)
    try:
        with zfs.mounted(dataset, bootstrapped.mountpoint(dataset)) as where:
            unpack(small_tar, where, log=SILENT, timeout=bootstrapped.limit(300))
            yield where
    finally:
        zfs.destroy(dataset)


def forget(place: Place, *names: str) -> None:
    """Destroys what an earlier run of the tests left of these images, which only the tests have, and its clones."""
    for name in names:
        for dataset in (f"{place.layout.golden}/{name}", f"{place.layout.work}/{name}"):
            if subprocess.run(["zfs", "list", dataset], capture_output=True).returncode == 0:
                subprocess.run(["zfs", "destroy", "-R", dataset], check=True, timeout=120)


@pytest.fixture
def nothing_left(place: Place) -> Callable[..., list[str]]:
    """Tells what sessions left: units and scopes, mounts, settings and exports of nspawn, datasets of boots.

    With names, only what has one of them in it: other tests may be at work at the same time.
    """

    def left(*names: str) -> list[str]:
        units = subprocess.run(
            ["systemctl", "list-units", "--all", "--plain", "--no-legend", "goldspawn-machine-*", "machine-*.scope"],
            capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if "/run/goldspawn/mnt/" in line]
        boots = subprocess.run(
            ["zfs", "list", "-H", "-r", "-d1", "-o", "name", place.layout.boots], capture_output=True, text=True
        ).stdout.splitlines()[1:]
        nspawn = Path("/run/systemd/nspawn")
        files = [str(path) for path in (*nspawn.glob("*.nspawn"), *nspawn.glob("unix-export/*"))]
        found = [*units, *mounts, *boots, *files]
        return [line for line in found if any(name in line for name in names)] if names else found

    return left


@pytest.fixture(scope="module")
def borrowed_cache() -> Iterator[Path]:
    """A cache with the user's built appliance, hard-linked, and a pool of its own: it waits for nobody.

    The appliance is built if it is not there yet: the session needs it anyway.
    """
    user = Store(default_cache())
    if lost := missing_tools():
        pytest.skip(f"this machine builds in place, and has no {lost[0][0]} for an appliance")
    if not user.appliance(recipe.key()).is_dir():
        subprocess.run([sys.executable, "-m", "pipeline.appliance", "build"], cwd=REPOSITORY, check=True, timeout=1200)
    for left in user.root.glob("test-*"):
        if not Path("/proc", left.name.split("-")[1]).exists():
            shutil.rmtree(left, ignore_errors=True)
    root = user.root / f"test-{os.getpid()}"
    built = user.appliance(recipe.key())
    try:
        shutil.copytree(built, root / built.name, copy_function=os.link)
        if (user.root / "kvm.json").exists():
            shutil.copy(user.root / "kvm.json", root)
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)
