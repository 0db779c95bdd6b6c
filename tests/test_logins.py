"""Repositories that ask for a login: apt and our own looks have it, and neither the tree nor a log does."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets as random
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline import bootstrap, netrc, secrets
from pipeline.command import SILENT, BuildLog
from pipeline.errors import InputError
from pipeline.image import load
from pipeline.masking import masked
from pipeline.netrc import Login
from pipeline.profile.apt import Apt
from pipeline.reuse.world import index, moved

CONTROL = """Package: {name}
Version: 1.0
Architecture: all
Maintainer: goldspawn <root@localhost>
Description: a package behind a login
"""


@dataclass(frozen=True)
class Closed:
    """A flat repository with one package, on a server that asks for a login."""

    folder: Path
    uri: str
    password: str
    asked: list[int]

    @property
    def login(self) -> str:
        return f"machine {self.uri}\nlogin me\npassword {self.password}\n"


def sh(command: str, cwd: Path, **variables: str) -> None:
    subprocess.run(["sh", "-ec", command], cwd=cwd, check=True, capture_output=True, env={**os.environ, **variables})


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    folder = tmp_path_factory.mktemp("closed")
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    (folder / "tree/DEBIAN").mkdir(parents=True)
    (folder / "tree/DEBIAN/control").write_text(CONTROL.format(name="behind"))
    sh("dpkg-deb --build --root-owner-group tree behind.deb && rm -r tree", folder)
    deb = (folder / "behind.deb").read_bytes()
    packages = CONTROL.format(name="behind") + (
        f"Filename: ./behind.deb\nSize: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\n"
    )
    (folder / "Packages").write_text(packages)
    digest = hashlib.sha256(packages.encode()).hexdigest()
    (folder / "Release").write_text(f"Date: {formatdate(usegmt=True)}\nSHA256:\n {digest} {len(packages)} Packages\n")
    key = "gpg --batch --quiet --passphrase '' --quick-generate-key closed ed25519 sign never"
    sh(f"{key}; gpg --batch --clearsign --output InRelease Release; gpg --armor --export > key.asc; gpgconf --kill all",
       folder, GNUPGHOME=str(home))  # fmt: skip
    password, asked = f"canary-{random.token_hex(12)}", list[int]()
    wanted = "Basic " + base64.b64encode(f"me:{password}".encode()).decode()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != wanted:
                asked.append(401)
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="closed"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            asked.append(200)
            super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Closed(folder, f"http://127.0.0.1:{server.server_port}", password, asked)
        server.shutdown()


@pytest.mark.parametrize(
    ("entry", "uri", "fits"),
    [
        ("machine a.example login me password x", "https://a.example/debian/x", True),
        ("machine a.example login me password x", "http://a.example/debian/x", False),
        ("machine http://a.example login me password x", "http://a.example/debian/x", True),
        ("machine a.example/one/ login me password x", "https://a.example/one/x", True),
        ("machine a.example/one/ login me password x", "https://a.example/other/x", False),
        ("machine a.example:8443 login me password x", "https://a.example:8443/x", True),
        ("machine a.example:8443 login me password x", "https://a.example/x", False),
        ("machine b.example login me password x", "https://a.example/x", False),
        ("# machine a.example login me password x", "https://a.example/x", False),
        ("machine a.example login me", "https://a.example/x", False),
    ],
)
def test_a_login_is_for_those_addresses_for_which_apt_takes_it(entry: str, uri: str, fits: bool) -> None:
    assert any(one.fits(uri) for one in netrc.parse(entry)) is fits


def test_several_logins_on_several_lines() -> None:
    text = "machine a\n  login me\n  password x\nmachine https://b/c login you password y"
    assert netrc.parse(text) == [Login("", "a", "/", "me", "x"), Login("https", "b", "/c", "you", "y")]


def test_debootstrap_does_not_log_in(tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "image.toml").write_text('[bootstrap]\nmethod = "debootstrap"\n[secrets.a]\nenv = "A"\nuse = ["apt"]\n')
    with pytest.raises(InputError, match="debootstrap cannot"):
        load(folder)


def test_apt_is_shown_the_logins_in_the_tree(tmp_path: Path) -> None:
    argv, shown = Apt(tmp_path, SILENT, 1.0, tmp_path / "logins")._argv(["update"])
    assert "-oDir::Etc::netrcparts=/run/secrets.apt/" in argv
    assert shown == {"/run/secrets.apt": tmp_path / "logins"}


@pytest.mark.skipif(os.geteuid() != 0, reason="the tree is made as root")
def test_a_tree_has_the_package_and_nothing_has_the_password(
    closed: Closed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    monkeypatch.setenv("CLOSED_LOGIN", closed.login)
    (folder / "key.asc").write_bytes((closed.folder / "key.asc").read_bytes())
    (folder / "image.toml").write_text(
        '[bootstrap]\nsuite = "trixie"\npackages = ["behind"]\n'
        f'[[bootstrap.repositories]]\nuri = "{closed.uri}"\nsuite = "./"\ncomponents = []\nkey = "key.asc"\n'
        '[secrets.closed]\nenv = "CLOSED_LOGIN"\nuse = ["apt"]\n'
    )
    image = load(folder)
    tar = tmp_path / "out/root.tar"
    with BuildLog(tmp_path / "log") as log, secrets.opened(image, "apt") as given:
        method = bootstrap.get(image.bootstrap.method)
        method.make(image.bootstrap, tar, log=log, base=folder, slowness=3.0, logins=given.logins)
    unpacked = subprocess.run(["tar", "-xOf", tar, "./var/lib/dpkg/status"], capture_output=True, text=True, check=True)
    assert "Package: behind\nStatus: install ok installed" in unpacked.stdout
    for file in (tar, tmp_path / "log"):
        assert closed.password.encode() not in file.read_bytes()
    assert 200 in closed.asked
    assert masked(f"it is {closed.password}.") == "it is ***."
    assert not list(Path("/run/goldspawn/secrets").rglob("closed*"))
    # The look at whether the index has moved logs in as well, once the image's secrets are known.
    closed.asked.clear()
    assert moved([index(f"{closed.uri}/InRelease", closed.folder / "InRelease")]) == []
    assert closed.asked == [200]
