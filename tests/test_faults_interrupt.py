"""Ctrl-C in every stage: pytest ends at once with its own status for it, and nothing of the build is left behind."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifact import folder as artifact_folder
from pipeline.image import load
from pipeline.place import Place
from pipeline.reuse.inputs import keys
from tests.conftest import SMALL, Sessions
from tests.test_faults_kill import mounted, others, prepare, runs

NAME = "broken-off"

DEFINITION = SMALL + '[profile]\nrun = ["sleep 5.25"]\n[artifact]\ncompression = "zstd-1"\n'

TESTS = """
def test_that_takes_its_time(machine):
    assert machine.run("sleep 5.75").rc == 0
"""


@pytest.fixture(scope="module")
def interrupted(place: Place, small_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    sessions = Sessions(tmp_path_factory.mktemp("interrupted"))
    prepare(sessions.image(NAME, DEFINITION, tests=TESTS), place, small_tar)
    return sessions


def booting(pid: int) -> bool:
    return Path(f"/run/systemd/transient/goldspawn-machine-{NAME}-gs{pid}.service").exists()


STAGES: dict[str, tuple[Callable[[int], bool] | None, float]] = {
    "dataset": (None, 0.0),
    "bootstrap": (mounted("bootstrap"), 0.5),
    "profile": (lambda _: runs("sleep", "5.25"), 0.2),
    "boot": (booting, 1.0),
    "machinectl_shell": (None, 0.2),
    "test_that_takes_its_time": (lambda _: runs("sleep", "5.75"), 0.2),
    "snapshot": (None, 0.0),
}


@pytest.mark.parametrize("check", STAGES)
def test_an_interrupted_run_leaves_nothing(
    check: str, interrupted: Sessions, place: Place, nothing_left: Callable[..., list[str]]
) -> None:
    until, after = STAGES[check]
    if check == "snapshot":
        until = lambda _: any(interrupted.artifacts.glob(f".{NAME}.partial-*/*.zfs"))  # noqa: E731
    left_out = others(check, NAME)
    struck = interrupted.strike(
        check, signal.SIGINT, *left_out, until=until, after=after, env={"GOLDSPAWN_NO_REPORT": "no"}
    )
    assert struck.status == 2, struck.output
    assert "KeyboardInterrupt" in struck.output
    assert struck.outcomes("FAILED") == []
    assert struck.outcome(check) == "", f"{check} was over before the interrupt"
    assert struck.seconds < place.limit(10), "an interrupted run has to end at once"
    assert nothing_left(f"/mnt/{struck.pid}/", f"{NAME}-gs") == []
    assert not runs("sleep", "5.25")
    assert not (interrupted.artifacts / NAME).exists()
    page = (interrupted.artifacts / "reports/index.html").read_text()
    assert "<title>1 image: 1 unfinished</title>" in page and "The run ended early: it was interrupted" in page
    assert artifact_folder.sweep(interrupted.artifacts) == [] if interrupted.artifacts.exists() else True


def test_what_was_done_before_an_interrupt_is_not_done_again(interrupted: Sessions) -> None:
    """The bootstrap that was whole is still there, and so is the candidate."""
    ended = interrupted.run("--no-export", "-k", f"{NAME} and (dataset or bootstrap or profile)")
    assert ended.status == 0, ended.output
    assert "starts after profile" in ended.output
    assert keys(load(interrupted.images / NAME)).bootstrap
