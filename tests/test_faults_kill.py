"""pytest killed with SIGKILL in every stage, and run again: nothing runs on, nothing half-written is left, and the next
run goes on as if nothing had been.

The tests are in the order of the stages, on one image, so that what one killed session leaves is what the next finds.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import throwaway
from pipeline.artifact import folder as artifact_folder
from pipeline.image import load
from pipeline.place import Place
from pipeline.reuse.inputs import keys
from pipeline.zfs import Zfs
from tests.conftest import REPOSITORY, SMALL, Sessions

NAME = "mortal"

# A compression of its own makes a bootstrap of its own: the kill in it must find one to be made.
DEFINITION = SMALL + '[profile]\npackages = ["hello"]\nrun = ["sleep 4.25"]\n[artifact]\ncompression = "lz4"\n'

TESTS = """
def test_that_takes_its_time(machine):
    assert machine.run("sleep 4.75").rc == 0
"""


def running(*argv: str) -> list[int]:
    """The processes that run with these arguments, in whatever container."""
    wanted = "\0".join(argv).encode() + b"\0"
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if process.read_bytes() == wanted:
                found.append(int(process.parent.name))
    return found


def runs(*argv: str) -> bool:
    """Whether a process with these arguments runs, in whatever container."""
    return bool(running(*argv))


def mounted(kind: str) -> Callable[[int], bool]:
    """Whether a session has a dataset of this kind mounted."""
    return lambda pid: any(
        f"/mnt/{pid}/" in line and f"+{kind}+" in line for line in Path("/proc/self/mounts").read_text().splitlines()
    )


def booting(pid: int) -> bool:
    """Whether a session's machine has been started."""
    unit = f"goldspawn-machine-{NAME}-gs{pid}.service"
    shown = ["systemctl", "show", "--value", "--property=MainPID", unit]
    return subprocess.run(shown, capture_output=True, text=True, timeout=30).stdout.strip() not in ("", "0")


STAGES: dict[str, tuple[Callable[[int], bool] | None, float]] = {
    "dataset": (None, 0.0),
    "bootstrap": (mounted("bootstrap"), 0.5),
    "packages": (mounted("bootstrap"), 1.0),  # in the check `profile`, while the layer of its packages is made
    "profile": (lambda _: runs("sleep", "4.25"), 0.2),
    "boot": (booting, 1.0),
    "machinectl_reboot": (None, 0.7),
    "test_that_takes_its_time": (lambda _: runs("sleep", "4.75"), 0.2),
    "snapshot": (None, 0.0),  # until it writes: see below
}
"""Each stage, with what tells that it is in the middle of its work, and the seconds to wait after that."""


@pytest.fixture(scope="module")
def mortal(place: Place, small_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    """Sessions with the one image; its root file system's tar is there, and its bootstrap is not."""
    sessions = Sessions(tmp_path_factory.mktemp("mortal"))
    folder = sessions.image(NAME, DEFINITION, tests=TESTS)
    prepare(folder, place, small_tar)
    return sessions


def prepare(folder: Path, place: Place, small_tar: Path) -> None:
    """Provides the tar of an image's bootstrap (it is that of `SMALL`), and forgets what an earlier run made of it."""
    image, zfs = load(folder), Zfs()
    tar = small_tar.with_name(f"{keys(image).bootstrap}.tar")
    tar.unlink(missing_ok=True)
    tar.hardlink_to(small_tar)
    throwaway.sweep(image.name, place, zfs)  # machines and clones of a run of the tests that was killed itself
    for name in (f"{place.layout.golden}/{image.name}", f"{place.layout.work}/{image.name}"):
        zfs.destroy(name)
    for key in (keys(image).packages, keys(image).bootstrap):
        for entry in zfs.entries(place.layout.bootstraps, depth=1):
            if entry.kind == "filesystem" and key and entry.name.rsplit("/", 1)[1].startswith(key):
                zfs.destroy(entry.name)


def others(check: str, name: str) -> list[str]:
    """Options that leave out the checks of the machine before `check`: only the snapshot needs all of them."""
    checks = [f"machinectl_{one}" for one in ("list", "show", "status", "shell", "login", "reboot")]
    left_out = [] if check == "snapshot" else [one for one in checks if one != check]
    return [f"--deselect={name}/image.toml::{one}" for one in left_out]


def gone(look: Callable[[], list[str]], limit: float) -> list[str]:
    """Waits until nothing is found any more, at most `limit` seconds; returns what is still there."""
    deadline = time.monotonic() + limit
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def came(look: Callable[[], object], limit: float) -> bool:
    """Waits until something is found, at most `limit` seconds; returns whether it was."""
    return gone(lambda: [] if look() else ["not yet"], limit) == []


def whole(artifacts: Path) -> bool:
    """Whether the artifact is not there, or passes goldspawn's own check."""
    folder = artifacts / NAME
    check = [sys.executable, "-m", "pipeline.artifact", "check", str(folder)]
    return not folder.exists() or subprocess.run(check, cwd=REPOSITORY, timeout=120).returncode == 0


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_leaves_nothing_running(stage: str, mortal: Sessions, place: Place) -> None:
    until, after = STAGES[stage]
    check = "profile" if stage == "packages" else stage
    if check == "snapshot":
        until = lambda _: any(mortal.artifacts.glob(f".{NAME}.partial-*/*.zfs"))  # noqa: E731
    # A second boot adds nothing but where it is what gets killed, or what the snapshot needs.
    left_out = (
        [] if check in ("machinectl_reboot", "snapshot") else [f"--deselect={NAME}/image.toml::machinectl_reboot"]
    )
    struck = mortal.strike(check, signal.SIGKILL, *left_out, until=until, after=after)
    assert struck.status == -signal.SIGKILL, struck.output
    assert struck.outcomes("FAILED") == []
    assert struck.outcome(check) == "", f"{check} was over before the kill"

    def machines() -> list[str]:
        listed = ["systemctl", "list-units", "--plain", "--no-legend", f"goldspawn-machine-{NAME}-*"]
        return subprocess.run(listed, capture_output=True, text=True, timeout=60).stdout.splitlines()

    assert gone(machines, place.limit(30)) == [], "the machine outlives its run"
    deadline = time.monotonic() + 3  # less than it would take by itself
    while runs("sleep", "4.25"):
        assert time.monotonic() < deadline, "what ran in the tree outlives its run"
        time.sleep(0.1)
    assert whole(mortal.artifacts)


def test_the_next_run_goes_on_and_clears_everything(
    mortal: Sessions, place: Place, nothing_left: Callable[..., list[str]]
) -> None:
    ended = mortal.run()
    assert ended.status == 0, ended.output
    assert ended.outcome("snapshot") == "PASSED"
    assert "starts after profile" in ended.output, "the killed runs cost this one the stages that were done"
    assert (mortal.artifacts / NAME).exists()
    assert whole(mortal.artifacts)
    assert artifact_folder.sweep(mortal.artifacts) == [], "what a killed export left is still there"
    assert nothing_left(NAME, keys(load(mortal.images / NAME)).bootstrap) == []
    snapshots = ["zfs", "list", "-Hro", "name", "-t", "snapshot", place.layout.base]
    names = subprocess.run(snapshots, check=True, capture_output=True, text=True).stdout.split()
    mine = [name for name in names if f"/{NAME}@" in name]
    held = subprocess.run(["zfs", "holds", "-H", *mine], check=True, capture_output=True, text=True).stdout
    assert held == ""
    known = keys(load(mortal.images / NAME))
    for key in (known.bootstrap, known.packages):
        assert len([name for name in names if f"/{key}-" in name]) == 1, "a half-made layer is still there"
