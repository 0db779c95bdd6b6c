"""The look at the world: a server of ours, asked as a mirror is; a repository of git; and what a tree's apt tells."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.bootstrap.indices import LISTS, indices
from pipeline.bootstrap.tarball import FromTarball
from pipeline.errors import PlaceError
from pipeline.reuse.world import Source, as_text, from_text, index, moved

SUITE = "debian/dists/trixie"


class Server:
    """A mirror on loopback, whose answers are counted by their status."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: list[int] = []
        outer = self

        class Handler(SimpleHTTPRequestHandler):
            def send_response(self, code: int, message: str | None = None) -> None:
                outer.answers.append(code)
                super().send_response(code, message)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.uri = f"http://127.0.0.1:{self.http.server_port}/debian"

    def publish(self, text: str, time: int) -> None:
        file = self.folder / SUITE / "InRelease"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, (time, time))


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "mirror").mkdir()
    server = Server(tmp_path / "mirror")
    server.publish("first", 1_700_000_000)
    yield server
    server.http.shutdown()


@pytest.fixture
def tree(mirror: Server, tmp_path: Path) -> Path:
    """A tree whose apt has fetched the mirror's index."""
    tree = tmp_path / "tree"
    (tree / LISTS).mkdir(parents=True)
    (tree / "etc/apt/sources.list.d").mkdir(parents=True)
    (tree / "etc/apt/sources.list").write_text(f"# a comment\ndeb [signed-by=/x.gpg] {mirror.uri} trixie main\n")
    name = f"{mirror.uri.removeprefix('http://')}/dists/trixie/InRelease".replace("/", "_")
    (tree / LISTS / name).write_text("first")
    os.utime(tree / LISTS / name, (1_700_000_000, 1_700_000_000))
    return tree


def test_what_did_not_move_costs_a_conditional_request(mirror: Server, tree: Path) -> None:
    sources = indices(tree)
    assert [(one.kind, one.uri, one.time) for one in sources] == [
        ("index", f"{mirror.uri}/dists/trixie/InRelease", 1_700_000_000)
    ]
    assert moved(sources) == []
    assert mirror.answers == [304]


def test_an_index_with_other_content_has_moved(mirror: Server, tree: Path) -> None:
    mirror.publish("second", 1_700_000_100)
    assert moved(indices(tree)) == [f"{mirror.uri}/dists/trixie/InRelease"]


def test_an_index_that_was_only_written_again_has_not_moved(mirror: Server, tree: Path) -> None:
    mirror.publish("first", 1_700_000_100)
    assert moved(indices(tree)) == []
    assert mirror.answers == [200]


def test_an_index_that_is_gone_has_moved(mirror: Server, tree: Path) -> None:
    (mirror.folder / SUITE / "InRelease").unlink()
    assert moved(indices(tree)) == [f"{mirror.uri}/dists/trixie/InRelease"]


def test_a_mirror_that_does_not_answer_is_told_with_what_to_do(mirror: Server, tree: Path) -> None:
    sources = indices(tree)
    mirror.http.shutdown()
    mirror.http.server_close()
    with pytest.raises(PlaceError, match=r"cannot look whether .*InRelease has changed: .*refused") as told:
        moved(sources)
    assert "--frozen" in (told.value.hint or "")


def test_packages_on_a_tarball_come_from_the_repositories_of_its_tree(mirror: Server, tree: Path) -> None:
    settings = FromTarball(tarball="root.tar")
    assert settings.world(tree) == (), "a tarball with a digest stays what it is"
    assert settings.installed_world(tree) == indices(tree) != ()


def test_both_formats_of_sources_are_read_and_what_is_switched_off_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "etc/apt/sources.list.d"
    folder.mkdir(parents=True)
    (folder / "a.list").write_text("deb-src http://a/debian sid main\ndeb http://a/debian sid main\n")
    (folder / "b.sources").write_text(
        "Types: deb deb-src\nURIs: http://b/debian\nSuites: x x-updates\nSigned-By:\n -----BEGIN\n .\n aaa\n\n"
        "Types: deb\nURIs: http://c/flat\nSuites: ./\n\nTypes: deb\nEnabled: no\nURIs: http://d\nSuites: y\n"
    )
    found = indices(tmp_path)
    assert [one.uri for one in found] == [
        "http://a/debian/dists/sid/", "http://b/debian/dists/x/", "http://b/debian/dists/x-updates/", "http://c/flat/",
    ]  # fmt: skip
    assert {one.kind for one in found} == {"age"}, "apt has kept no index of these"


def test_what_cannot_be_looked_at_counts_for_a_day() -> None:
    source = Source("age", "somewhere", time=1000)
    assert moved([source], now=1000 + 86399) == []
    assert moved([source], now=1000 + 86401) == ["somewhere"]
    assert moved([source], now=900) == ["somewhere"], "made in the future: a clock was wrong"


def test_a_repository_of_git_has_moved_with_its_next_commit(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        argv = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x", *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "one")
    uri = f"file://{tmp_path}"
    world = [Source("git", uri, git("rev-parse", "HEAD"), 1)]
    assert moved(world) == []
    git("commit", "--quiet", "--allow-empty", "--message", "two")
    assert moved(world) == [uri]
    with pytest.raises(PlaceError, match="cannot look whether"):
        moved([Source("git", f"file://{tmp_path}/nowhere", "0" * 40, 1)])


def test_sources_survive_a_property_and_nonsense_is_none(tmp_path: Path) -> None:
    file = tmp_path / "index"
    file.write_text("x")
    sources = (index("http://a/x", file), Source("git", "file:///y", "0" * 40, 7))
    assert from_text(as_text(sources)) == tuple(sorted(sources))
    assert from_text("") is None
    assert from_text("[1]") is None
    assert moved(()) == []
