"""Ctrl-C that comes at a bad moment: later, and not never."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.interrupts import held

REPOSITORY = Path(__file__).parents[1]

FORKS = """
import contextlib, os, signal
from pipeline.interrupts import held
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
with {how}:
    pid, terminal = os.forkpty()
    if pid == 0:
        os._exit(0)
print("nobody heard")
"""


def test_what_would_be_lost_is_heard_behind_the_block() -> None:
    """A callback of a fork is where Python prints an exception and goes on; the first of the two shows that it does."""
    ends = {}
    for how in ("contextlib.nullcontext()", "held()"):
        done = subprocess.run(
            [sys.executable, "-c", FORKS.format(how=how)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
        )
        ends[how] = "nobody heard" in done.stdout, done.returncode
    assert ends == {"contextlib.nullcontext()": (True, 0), "held()": (False, -signal.SIGINT)}


def test_the_block_is_run_to_its_end_and_the_handler_is_back() -> None:
    before, reached = signal.getsignal(signal.SIGINT), False
    with pytest.raises(KeyboardInterrupt), held():
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
    assert reached
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_of_the_block_is_that_of_the_block() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), held():
        print(1 // 0)
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_may_use_it() -> None:
    told: list[str] = []

    def work() -> None:
        with held():
            told.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert told == ["done"]
