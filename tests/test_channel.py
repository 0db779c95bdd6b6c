"""The line to the process that owns the terminal: what is said arrives, and nothing of it is left."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline import channel
from pipeline.errors import GoldspawnError
from tests.conftest import code

OWNER = """
from pipeline.channel import Listener
import time
print(Listener(lambda message: None).path, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that no other session clears."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def answer(message: channel.Message) -> channel.Message:
    if message["kind"] == "wrong":
        raise GoldspawnError("that is wrong", hint="say it otherwise")
    return {"said": message["kind"]}


def test_who_asks_has_the_answer_and_errors_travel(monkeypatch: pytest.MonkeyPatch, apart: Path) -> None:
    listener = channel.Listener(answer)
    try:
        monkeypatch.setenv(channel.ENVIRONMENT, str(listener.path))
        assert channel.ask({"kind": "this"}) == {"said": "this"}
        with pytest.raises(GoldspawnError, match="that is wrong") as caught:
            channel.ask({"kind": "wrong"})
        assert caught.value.hint == "say it otherwise"
    finally:
        listener.close()
    assert list(apart.iterdir()) == []
    with pytest.raises(GoldspawnError, match="is gone"):
        channel.ask({"kind": "this"})


def test_what_a_killed_owner_left_is_cleared_by_the_next_and_what_one_uses_is_not(apart: Path) -> None:
    def owner() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **code(), "TMPDIR": str(apart)},
        )
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip()).parent
        os.utime(folder, (0, 0))  # it is no young one any more
        return process, folder

    (killed, left), (running, used) = owner(), owner()
    try:
        killed.kill()
        killed.wait()
        assert left.exists()
        channel.Listener(answer).close()
        assert list(apart.iterdir()) == [used]
    finally:
        for process in (killed, running):
            process.kill()
            process.wait()
