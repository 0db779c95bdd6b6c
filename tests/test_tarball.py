"""Tarballs that a user names: fetched, checked, and refused in one line where they are not the right ones."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import bootstrap, tarball
from pipeline.bootstrap.source import Tarball, plain
from pipeline.command import SILENT
from pipeline.errors import GoldspawnError, InputError
from pipeline.image import load
from pipeline.reuse.inputs import keys


def members(tar: Path) -> list[str]:
    with tarfile.open(tar) as archive:
        return archive.getnames()


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A small tarball, compressed with xz."""
    file = tmp_path / "stage3.tar.xz"
    with tarfile.open(file, "w:xz") as archive:
        info = tarfile.TarInfo("etc/gentoo-release")
        info.size = 6
        archive.addfile(info, io.BytesIO(b"Gentoo"))
    return file


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server for what lies in the test's folder; its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/short.tar":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"x" * 10)
                return
            super().do_GET()

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def take(source: Tarball, folder: Path) -> Path:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    plain(source, out / "root.tar", key="bootstrap", log=SILENT, base=folder, slowness=3.0)
    return out / "root.tar"


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_beside_the_image_is_taken(stage: Path, tmp_path: Path) -> None:
    assert members(take(Tarball("stage3.tar.xz"), tmp_path)) == ["etc/gentoo-release"]


def test_one_is_fetched_and_known_by_its_digest(stage: Path, server: str, tmp_path: Path) -> None:
    source = Tarball(f"{server}/stage3.tar.xz", sha256=digest(stage))
    assert members(take(source, tmp_path)) == ["etc/gentoo-release"]


def test_another_digest_is_refused_and_told(stage: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        take(Tarball("stage3.tar.xz", sha256="0" * 64), tmp_path)
    assert caught.value.message == (f"bootstrap.sha256 of image.toml: stage3.tar.xz has the digest {digest(stage)}")
    assert not (tmp_path / "out/root.tar").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [("lost.tar", "File not found"), ("short.tar", "ended after 10 of 1000 bytes")],
)
def test_what_cannot_be_fetched_is_told(name: str, told: str, server: str, tmp_path: Path) -> None:
    with pytest.raises(GoldspawnError) as caught:
        take(Tarball(f"{server}/{name}", sha256="0" * 64), tmp_path)
    assert f"bootstrap.tarball of image.toml: {server}/{name}: " in str(caught.value)
    assert told in str(caught.value)


def test_a_server_that_is_not_there_is_told(server: str, tmp_path: Path) -> None:
    with pytest.raises(GoldspawnError, match="Connection refused"):
        take(Tarball("http://127.0.0.1:9/stage3.tar", sha256="0" * 64), tmp_path)


def signed(file: Path, keys: Path, name: str) -> None:
    """Signs a file with a key of that name, made for it; the public key becomes `keys`."""
    home = file.parent / f"gnupg-{name}"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--batch", "--quiet", f"--homedir={home}", "--passphrase="]
    run = functools.partial(subprocess.run, check=True, capture_output=True, timeout=120)
    run([*gpg, "--quick-generate-key", name, "ed25519", "sign", "never"])
    run([*gpg, f"--output={keys}", "--armor", "--export", name])
    signature = Path(f"{file}.asc")
    signature.unlink(missing_ok=True)
    run([*gpg, f"--output={signature}", "--armor", "--detach-sign", str(file)])
    run(["gpgconf", f"--homedir={home}", "--kill", "all"])


def test_a_signature_by_one_of_the_keys_is_enough(stage: Path, server: str, tmp_path: Path) -> None:
    signed(stage, tmp_path / "release.asc", "release")
    assert members(take(Tarball(f"{server}/stage3.tar.xz", key="release.asc"), tmp_path)) == ["etc/gentoo-release"]


def test_another_ones_signature_is_refused(stage: Path, tmp_path: Path) -> None:
    signed(stage, tmp_path / "release.asc", "release")
    signed(stage, tmp_path / "other.asc", "other")
    with pytest.raises(
        InputError, match=r"bootstrap\.key of image\.toml: the signature .* is not by one of these keys"
    ):
        take(Tarball("stage3.tar.xz", key="release.asc"), tmp_path)


def test_a_signature_of_other_bytes_is_refused(stage: Path, tmp_path: Path) -> None:
    signed(stage, tmp_path / "release.asc", "release")
    stage.write_bytes(stage.read_bytes() + b"\0")
    with pytest.raises(InputError, match="or not of these bytes"):
        take(Tarball("stage3.tar.xz", key="release.asc"), tmp_path)


def test_a_tarball_without_its_signature_is_refused(stage: Path, tmp_path: Path) -> None:
    (tmp_path / "release.asc").touch()
    with pytest.raises(InputError, match="there is no signature beside"):
        take(Tarball("stage3.tar.xz", key="release.asc"), tmp_path)


def image(folder: Path, text: str) -> Path:
    (folder / "one").mkdir()
    (folder / "one/image.toml").write_text(text)
    return folder / "one"


def test_one_from_elsewhere_needs_a_digest_or_a_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bootstrap: a tarball from a URI needs `sha256` or `key`"):
        load(image(tmp_path, '[bootstrap]\nmethod = "tarball"\ntarball = "https://example.org/root.tar"\n'))


def test_a_tarball_is_a_bootstrap(stage: Path, tmp_path: Path) -> None:
    made = load(image(tmp_path, f'[bootstrap]\nmethod = "tarball"\ntarball = "{stage}"\n'))
    bootstrap.get("tarball").make(made.bootstrap, tmp_path / "made.tar", log=SILENT, base=made.folder, slowness=3.0)
    assert members(tmp_path / "made.tar") == ["etc/gentoo-release"]


def test_a_look_that_found_nothing_new_is_remembered(stage: Path, tmp_path: Path) -> None:
    made = load(image(tmp_path, f'[bootstrap]\nmethod = "tarball"\ntarball = "{stage}"\n'))
    again = functools.partial(tarball.make, made, tarball.BOOTSTRAP, folder=tmp_path / "tars", log=SILENT, slowness=3.0)
    tar = again(max_age=3600.0)
    before = time.time() - 7200
    os.utime(tar, (before, before))
    inode = again(max_age=float("inf")).stat().st_ino
    assert tar.stat().st_mtime == pytest.approx(before), "nobody looked"
    assert again(max_age=3600.0).stat().st_ino == inode
    assert time.time() - tar.stat().st_mtime < 3600


def test_a_tar_that_a_wrong_clock_dated_into_the_future_is_not_taken_for_fresh(stage: Path, tmp_path: Path) -> None:
    """As long as the clock had been ahead, nobody would look whether there are updates."""
    made = load(image(tmp_path, f'[bootstrap]\nmethod = "tarball"\ntarball = "{stage}"\n'))
    again = functools.partial(
        tarball.make, made, tarball.BOOTSTRAP, folder=tmp_path / "tars", max_age=3600.0, log=SILENT, slowness=3.0
    )
    first = again()
    first.with_suffix(".world").unlink()  # what it came from is not known: its age alone can speak for it
    inode = first.stat().st_ino
    assert again().stat().st_ino == inode
    ahead = time.time() + 30 * 86400
    os.utime(first, (ahead, ahead))
    assert again().stat().st_mtime <= time.time()


def test_a_tarball_of_this_machine_that_changed_is_not_taken_for_the_one_before(tmp_path: Path) -> None:
    folder = image(tmp_path, '[bootstrap]\nmethod = "tarball"\ntarball = "../root.tar"\n')
    found = []
    for content in (None, "one", "two", "two"):
        if content is not None:
            (tmp_path / "root.tar").write_text(content)
        found.append(keys(load(folder)).bootstrap)
    assert len(set(found)) == 3
    assert found[2] == found[3]
