"""Which commit of an overlay is recorded: the one that was merged, not the newest there is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.command import BuildLog
from pipeline.image import load
from pipeline.reuse.world import Source, moved
from pipeline.tarball import MERGED, drawn_from, make
from tests.gentoo import builder, repository

MADE = Path(__file__).parent.parent / "images/gentoo1/made"
OVERLAY = Path(__file__).parent / "overlay"


@dataclass(frozen=True)
class Overlay:
    """The overlay `local` in a repository of git, which a server of ours offers at `uri`."""

    work: Path
    uri: str

    def git(self, *arguments: str) -> str:
        argv = ["git", "-C", str(self.work), "-c", "user.name=x", "-c", "user.email=x@x", *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def commit(self, text: str) -> str:
        (self.work / "notes").write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", text)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Overlay]:
    work = tmp_path / "served/local"
    shutil.copytree(OVERLAY, work)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = ["git", "daemon", "--export-all", f"--base-path={work.parent}", "--listen=127.0.0.1", f"--port={port}"]
    daemon = subprocess.Popen([*argv, "--reuseaddr"], start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            assert time.monotonic() < deadline and daemon.poll() is None, "git daemon does not listen"
            time.sleep(0.05)
        made = Overlay(work, f"git://127.0.0.1:{port}/local")
        made.git("init", "--quiet")
        yield made
    finally:
        os.killpg(daemon.pid, 15)
        daemon.wait(10)


def test_what_was_merged_is_recorded_also_where_nobody_looked_for_something_newer(
    overlay: Overlay, tmp_path: Path
) -> None:
    repository.write(MADE / "tiny")
    builder.make(MADE / "builder.tar.zst")

    def merged(name: str) -> tuple[Source, ...]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "image.toml").write_text(f"""
[bootstrap]
method = "gentoo"
profile = "local:host/gentoo1"
main_repository = "tiny"
sets = ["sys-apps/baselayout"]
builder = {{ tarball = "{MADE}/builder.tar.zst" }}
make_conf = {{ IMAGE = "{name}" }}
[[bootstrap.repositories]]
name = "tiny"
folder = "{MADE}/tiny"
[[bootstrap.repositories]]
name = "local"
git = "{overlay.uri}"
""")
        with BuildLog(tmp_path / "log") as log:
            tars = tmp_path / "exchange/tars"
            return drawn_from(make(load(folder), MERGED, folder=tars, max_age=86400.0, log=log, slowness=3.0))

    first = overlay.commit("first")
    world = merged("one")
    assert [(one.uri, one.state) for one in world if one.kind == "git"] == [(overlay.uri, first)]
    assert moved(world) == []
    overlay.commit("second")
    world = merged("two")  # young enough: it is not synced
    assert [one.state for one in world if one.kind == "git"] == [first]
    assert moved(world) == [overlay.uri], "the second commit is hidden from the next run"
