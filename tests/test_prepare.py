"""The conftest.py of an image makes what its image.toml names, before a build; a failure costs that image only."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Sessions

FAILS = """
from pipeline.errors import GoldspawnError

def pytest_goldspawn_prepare(folder, log):
    (folder / "called").touch()
    raise GoldspawnError("the tarball cannot be had", hint="ask somebody else")
"""


def test_an_image_that_cannot_be_prepared_fails_before_anything_is_started(sessions: Sessions, tmp_path: Path) -> None:
    (sessions.image("unlucky") / "conftest.py").write_text(FAILS)
    ended = sessions.run(env={"GOLDSPAWN_CACHE": str(tmp_path / "cache")}, limit=60)
    assert ended.status == 1
    assert ended.outcomes("FAILED") == ["dataset"], ended.output
    assert "the tarball cannot be had" in ended.output
    assert "ask somebody else" in ended.output
    assert "12 blocked" in ended.output and ended.outcomes("PASSED") == []
    assert (sessions.images / "unlucky/called").exists()
    assert not list((tmp_path / "cache").glob("*/root.erofs")), "no appliance was built for it"


def test_collecting_prepares_nothing(sessions: Sessions) -> None:
    (sessions.image("unlucky") / "conftest.py").write_text(FAILS)
    assert sessions.run("--collect-only", "-q").status == 0
    assert not (sessions.images / "unlucky/called").exists()
