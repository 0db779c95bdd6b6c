"""Sessions that move into the appliance: what pytest's user sees is one session, wherever its tests run.

These start sessions with an appliance of their own cache (built files borrowed), from tests that run in place.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from pipeline import place

REPOSITORY = Path(__file__).resolve().parents[1]

TESTS = """
import os, pathlib, time
import pytest

def test_runs_here():
    assert "GOLDSPAWN_INSIDE" not in os.environ

def test_runs_there(place):
    assert pathlib.Path("/sys/module/zfs").exists()

def test_is_wrong(place):
    numbers = [1, 2]
    assert numbers == [1, 3], "the sum is off"

@pytest.mark.skip(reason="not today")
def test_is_skipped(place):
    pass

def test_comes_last(place):
    print("said inside")
"""

pytestmark = pytest.mark.skipif(
    place.choose("auto").where == "native", reason="this host builds in place: its sessions never move"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tests, one of them for this machine and the others for the appliance."""
    made = tmp_path_factory.mktemp("moving")
    (made / "test_some.py").write_text(TESTS)
    (made / "pytest.ini").write_text("[pytest]\n")
    return made


@pytest.fixture(scope="module")
def environment(borrowed_cache: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GOLDSPAWN_", "PYTEST_"))}
    return {**kept, "GOLDSPAWN_CACHE": str(borrowed_cache), "PYTHONUNBUFFERED": "1"}


def session(folder: Path, environment: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args]
    return subprocess.run(
        argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400
    )


def test_local_tests_start_no_appliance(folder: Path, environment: dict[str, str]) -> None:
    done = session(folder, environment, "-k", "runs_here", "-v")
    assert done.returncode == 0, done.stdout
    assert "appliance" not in done.stdout
    assert "1 passed, 4 deselected" in done.stdout


def test_a_mixed_session_reads_as_one(folder: Path, environment: dict[str, str], tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    done = session(folder, environment, f"../{folder.name}", "-v", f"--junitxml={report}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "goldspawn: where: appliance" in done.stdout
    for name, word in (("here", "PASSED"), ("there", "PASSED"), ("wrong", "FAILED"), ("skipped", "SKIPPED")):
        assert re.search(rf"test_\w+_{name} {word}", done.stdout), done.stdout
    assert "the sum is off" in done.stdout
    assert "1 failed, 3 passed, 1 skipped" in done.stdout
    suite = ElementTree.parse(report).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "1", "1")


def test_x_and_q_and_selection_are_those_of_outside(folder: Path, environment: dict[str, str]) -> None:
    chosen = [f"test_some.py::test_{name}" for name in ("runs_there", "is_wrong", "comes_last")]
    done = session(folder, environment, "-x", "-q", *chosen)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "stopping after 1 failures" in done.stdout
    assert "1 failed, 1 passed in " in done.stdout, "test_comes_last was not run any more"
    assert "test session starts" not in done.stdout


def test_n_runs_workers_inside(folder: Path, environment: dict[str, str]) -> None:
    done = session(folder, environment, "-n", "2", "-v")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 3 passed, 1 skipped" in done.stdout, done.stdout


def test_on_a_terminal_colours_and_progress_show(folder: Path, environment: dict[str, str]) -> None:
    terminal = pexpect.spawn(
        sys.executable, ["-m", "pytest", "-v", "-k", "there"], cwd=str(folder), env={**environment, "TERM": "xterm"},
        dimensions=(30, 90), encoding="utf-8", timeout=400,
    )  # fmt: skip
    terminal.expect("appliance · start · 0:")
    terminal.expect("\x1b\\[32mPASSED")
    terminal.expect("1 passed")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


@pytest.fixture
def slow_folder(tmp_path: Path) -> Path:
    marker = tmp_path / "artifacts" / "marks"
    marker.mkdir(parents=True)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_slow.py").write_text(
        f"""
import pathlib, time
import pytest

@pytest.fixture
def held(place):
    yield
    pathlib.Path({str(marker / "cleaned")!r}).write_text("yes")

def test_takes_long(held):
    pathlib.Path({str(marker / "started")!r}).write_text("yes")
    time.sleep(300)

def test_comes_next(place):
    pass
"""
    )
    return tmp_path


def started(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """A session of which the long test has begun inside."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"], cwd=folder, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # A shell starts what runs in the background with Ctrl-C ignored, and CI may run there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 400
    while not (folder / "artifacts/marks/started").exists():
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    return process


def guests(process: subprocess.Popen[str]) -> list[int]:
    """The process ids of the virtual machines below a session."""
    found = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "qemu-system"], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


@pytest.fixture
def ending() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()


def test_ctrl_c_cleans_up_inside_and_says_so(
    slow_folder: Path, environment: dict[str, str], ending: list[subprocess.Popen[str]]
) -> None:
    process = started(slow_folder, environment)
    ending.append(process)
    machines = guests(process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 2, output
    assert "KeyboardInterrupt" in output
    assert (slow_folder / "artifacts/marks/cleaned").exists()
    assert machines and not any(Path(f"/proc/{machine}").exists() for machine in machines)


def test_a_guest_that_is_killed_fails_its_test_and_blocks_the_rest(
    slow_folder: Path, environment: dict[str, str], ending: list[subprocess.Popen[str]]
) -> None:
    process = started(slow_folder, environment)
    ending.append(process)
    (machine,) = guests(process)
    os.kill(machine, signal.SIGKILL)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 1, output
    assert "the appliance is gone" in output
    assert re.search(r"test_takes_long.*FAILED", output)
    assert re.search(r"test_comes_next.*BLOCKED", output)


def test_a_guest_that_freezes_is_given_up(
    slow_folder: Path, environment: dict[str, str], ending: list[subprocess.Popen[str]]
) -> None:
    process = started(slow_folder, {**environment, "GOLDSPAWN_SILENCE": "60"})
    ending.append(process)
    (machine,) = guests(process)
    os.kill(machine, signal.SIGSTOP)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1, output
    assert "the appliance is frozen" in output
    assert not Path(f"/proc/{machine}").exists()


def test_a_session_that_is_killed_takes_its_guest_along(
    slow_folder: Path, environment: dict[str, str], ending: list[subprocess.Popen[str]]
) -> None:
    process = started(slow_folder, environment)
    ending.append(process)
    (machine,) = guests(process)
    process.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{machine}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
