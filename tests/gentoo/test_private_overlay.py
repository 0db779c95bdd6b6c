"""An overlay behind a login: who has that in `[secrets]` gets it, and it stands nowhere afterwards."""

from __future__ import annotations

import base64
import http.server
import os
import secrets as random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from pipeline import netrc
from pipeline.command import BuildLog
from pipeline.errors import GoldspawnError, InputError
from pipeline.gentoo.syncing import SYNCED
from pipeline.image import load
from pipeline.reuse.world import moved
from pipeline.secrets import opened
from pipeline.tarball import MERGED, drawn_from, make
from tests.gentoo.definition import OVERLAY, definition
from tests.gentoo.served import LoginServer, git, serving

pytestmark = pytest.mark.usefixtures("made")


@dataclass(frozen=True)
class Private:
    """A server with the overlay `local`, the password that it asks for, and its repository."""

    server: LoginServer
    password: str
    work: Path


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Private]:
    password = f"{random.token_hex(12)}/%@:+ü"  # all that has a meaning in an address
    work = tmp_path / "remote/local"
    shutil.copytree(OVERLAY, work)
    git(work, "init", "--quiet")
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", "first")
    server = LoginServer(work.parent, f"me:{password}")
    with serving(server):
        yield Private(server, password, work)


def image(folder: Path, private: Private) -> Path:
    """The folder of an image of one package with that overlay."""
    made = folder / "private"
    made.mkdir(exist_ok=True)
    text = definition("sys-apps/baselayout", local=f'git = "{private.server.uri}/local"')
    (made / "image.toml").write_text(f'{text}\n[secrets.team]\nenv = "TEAM_LOGIN"\nuse = ["git"]\n')
    return made


def seen_in(folder: Path, words: list[str]) -> list[Path]:
    """The files in a folder that hold one of the words."""
    argv = ["grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings"]
    argv += [*(f"--regexp={word}" for word in words), str(folder)]
    return [Path(line) for line in subprocess.run(argv, capture_output=True, text=True).stdout.splitlines()]


def test_who_has_the_login_gets_it_and_it_stands_nowhere(
    private: Private, tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = f"machine {private.server.uri} login me password {private.password}"
    monkeypatch.setenv("TEAM_LOGIN", login)
    folder = image(tmp_path, private)
    canaries = [private.password, quote(private.password, "")]
    canaries.append(base64.b64encode(f"me:{private.password}".encode()).decode())
    shown: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            told = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
            shown.update(line for line in told.splitlines() if any(one in line for one in canaries) or "emaint" in line)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with BuildLog(tmp_path / "log") as log:
            tar = make(load(folder), MERGED, folder=tars, max_age=0.0, log=log, slowness=3.0)
    finally:
        over.set()
        watcher.join()
    assert shown and not [line for line in shown if any(one in line for one in canaries)]
    tree = tmp_path / "tree"
    tree.mkdir()
    subprocess.run(["tar", "--extract", f"--file={tar}", f"--directory={tree}", "--exclude=./dev"], check=True)
    assert (tree / "etc/gentoo-release").exists()
    (tree / "control").write_text(private.password)
    assert seen_in(tree, canaries) == [tree / "control"]
    assert seen_in(tars.parent, canaries) == []
    assert seen_in(tmp_path / "log", canaries) == []
    assert any((tars.parent / "portage/repos").glob(f"local-*/{SYNCED}"))

    # Whether it has changed is looked at with the login as well; nothing has, and then something.
    with BuildLog(tmp_path / "log") as log:
        make(load(folder), MERGED, folder=tars, max_age=0.0, log=log, slowness=3.0)
        assert "merged: reuses" in (tmp_path / "log").read_text()
    (private.work / "README").write_text("new\n")
    git(private.work, "add", "--all")
    git(private.work, "commit", "--quiet", "--message", "second")
    with opened(load(folder)):
        assert len(moved(drawn_from(tar))) == 1


def test_without_it_the_repository_cannot_be_synced_and_nobody_is_asked(
    private: Private, tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_LOGIN", "machine other.example.org login me password long-enough")
    with pytest.raises(GoldspawnError) as caught, BuildLog(tmp_path / "log") as log:
        make(load(image(tmp_path, private)), MERGED, folder=tars, max_age=0.0, log=log, slowness=3.0)
    assert "repository local cannot be synced" in f"{caught.value.hint} {caught.value.message}"
    assert private.server.asked and not any(private.server.asked), "the login is for another server"


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    """Answers that it is at another server."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Elsewhere)
        self.send_response(301)
        self.send_header("Location", f"{self.server.target}{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Elsewhere(http.server.ThreadingHTTPServer):
    """A server that leads to another one, `target`."""

    target = ""


def test_the_login_is_for_its_server_and_for_none_to_which_that_leads(private: Private, tmp_path: Path) -> None:
    leads = Elsewhere(("127.0.0.1", 0), _Elsewhere)
    leads.target = private.server.uri
    with serving(leads):
        uri = f"http://127.0.0.1:{leads.server_address[1]}/local"
        text = f"machine {uri.removesuffix('/local')} login me password {private.password}"
        netrc.know(text)
        (tmp_path / "logins").write_text(netrc.for_git(text))
        for login in (netrc.git_for(uri), netrc.git_from_file(str(tmp_path / "logins"))):
            assert "GIT_CONFIG_COUNT" in login
            argv = ["git", "ls-remote", uri]
            done = subprocess.run(argv, env={**os.environ, **login}, capture_output=True, text=True, timeout=60)
            assert done.returncode != 0 and "could not read Username" in done.stderr
    assert private.server.asked and not any(private.server.asked)


def test_what_is_no_login_is_refused(private: Private, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_LOGIN", "me:password@git.example.org")
    told = r"secrets.team: what TEAM_LOGIN holds is no login"
    with pytest.raises(InputError, match=told), opened(load(image(tmp_path, private))):
        pass
