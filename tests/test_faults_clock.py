"""The clock jumps while a machine is verified: a month ahead, two months back, and ahead again.

It is the kernel's, and so that of every machine on it: these sessions have an appliance of their own.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline import place
from tests.conftest import SMALL, Session, Sessions

JUMPS = """
import os
import time

import pytest

DAYS = {"boot": 30, "machinectl_reboot": -60, "machinectl_poweroff": 60}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    if "GOLDSPAWN_INSIDE" in os.environ:
        time.clock_settime(time.CLOCK_REALTIME, time.time() + 86400 * DAYS.get(item.name, 0))
    return (yield)
"""

TESTS = """
import time

def test_the_machine_goes_by_the_clock_that_jumped(machine):
    assert abs(int(machine.check_output("date +%s")) - time.time()) < 60
"""

pytestmark = pytest.mark.skipif(
    place.choose("auto").where == "native", reason="this host's clock is not ours to set: it builds in place"
)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    made = Sessions(tmp_path_factory.mktemp("clock"))
    folder = made.image("jumpy", SMALL, tests=TESTS)
    (folder / "conftest.py").write_text(JUMPS)
    return made


@pytest.fixture(scope="module")
def jumped(sessions: Sessions, borrowed_cache: Path) -> tuple[Session, float]:
    """The session in which the clock jumps, and the seconds that it took by a clock that did not."""
    started = time.monotonic()
    ended = sessions.run(env={"GOLDSPAWN_CACHE": str(borrowed_cache)}, limit=1200)
    return ended, time.monotonic() - started


def test_a_machine_that_is_well_passes_for_all_that(sessions: Sessions, jumped: tuple[Session, float]) -> None:
    ended, seconds = jumped
    assert ended.status == 0, ended.output
    manifest = json.loads((sessions.artifacts / "jumpy/manifest.json").read_text())
    ahead = datetime.fromisoformat(manifest["time"]) - datetime.now(UTC)
    assert timedelta(days=29) < ahead < timedelta(days=31), "the clock did not jump"
    times = {check["name"]: check["seconds"] for check in manifest["checks"]}
    assert "test_the_machine_goes_by_the_clock_that_jumped" in " ".join(times)
    assert all(0 <= taken <= seconds for taken in times.values()), "a check's time is not the difference of two clocks"


def test_the_next_session_takes_what_was_built_in_another_month(
    sessions: Sessions, jumped: tuple[Session, float], borrowed_cache: Path
) -> None:
    ended = sessions.run(env={"GOLDSPAWN_CACHE": str(borrowed_cache)}, limit=600)
    assert ended.status == 0, ended.output
    assert "is of this snapshot, and whole" in ended.output
