"""Root file systems as their user gets them: whole, without leftovers, or an error that names the key to change.

The runs are real: Debian's own tools, and the mirror that they have as their default.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import bootstrap
from pipeline.bootstrap.apart import apart, pack
from pipeline.bootstrap.debian import Repository, hint, repository_files
from pipeline.command import SILENT, BuildLog
from pipeline.errors import CommandFailed, GoldspawnError, InputError, PlaceError
from pipeline.image import Image, load
from pipeline.scratch import scratch

REPOSITORY = Path(__file__).parent.parent
SUITE = "trixie"
DEAD = "http://127.0.0.1:9/debian"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and chroots need root")
needs_mmdebstrap = pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="mmdebstrap is not installed")
needs_debootstrap = pytest.mark.skipif(shutil.which("debootstrap") is None, reason="debootstrap is not installed")


def image(tmp_path: Path, text: str) -> Image:
    folder = tmp_path / "some"
    folder.mkdir(exist_ok=True)
    (folder / "image.toml").write_text(f"[bootstrap]\n{text}\n")
    return load(folder)


def make(tmp_path: Path, text: str) -> Path:
    """Makes the tar of a section `[bootstrap]`."""
    made = image(tmp_path, text)
    tar = tmp_path / "out/root.tar"
    with BuildLog(tmp_path / "log") as log:
        bootstrap.get(made.bootstrap.method).make(made.bootstrap, tar, log=log, base=made.folder, slowness=3.0)
    return tar


def failure(tmp_path: Path, text: str) -> GoldspawnError:
    """The error of a section that cannot work; nothing is left of the attempt."""
    with pytest.raises(GoldspawnError) as caught:
        make(tmp_path, text)
    assert list((tmp_path / "out").iterdir()) == []
    return caught.value


def members(tar: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(tar, "r:") as opened:
        return {member.name.removeprefix("./"): member for member in opened}


def text_of(tar: Path, name: str) -> str:
    with tarfile.open(tar, "r:") as opened:
        found = opened.extractfile(f"./{name}")
        assert found is not None
        return found.read().decode()


def test_the_methods_are_known() -> None:
    assert list(bootstrap.known()) == ["debootstrap", "gentoo", "mmdebstrap", "tarball"]
    assert bootstrap.get("mmdebstrap").unprivileged
    assert not bootstrap.get("debootstrap").unprivileged


def test_an_unknown_method_is_told_with_those_that_there_are() -> None:
    with pytest.raises(InputError) as caught:
        bootstrap.get("mmdebstrp")
    known = "debootstrap, gentoo, mmdebstrap, tarball"
    assert str(caught.value) == f'unknown bootstrap method "mmdebstrp"\nhint: known: {known}'


def test_a_further_method_is_one_file(tmp_path: Path) -> None:
    """The file is put into a copy of the package; nothing else of it changes."""
    shutil.copytree(REPOSITORY / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pipeline/bootstrap/empty.py").write_text(
        '''"""A root file system with nothing in it."""
from typing import Annotated, ClassVar, Literal
from pydantic import Field
from pydantic.dataclasses import dataclass
from pipeline.bootstrap.method import STRICT, Method, Settings, register

@dataclass(frozen=True, config=STRICT)
class Empty(Settings):
    """Nothing."""
    method: Annotated[Literal["empty"], Field(description="Nothing at all.")] = "empty"
    colour: Annotated[str, Field(description="Its colour.")] = "white"

class _Empty(Method[Empty]):
    name = "empty"
    settings = Empty
    tools: ClassVar = {"goldspawn-no-such-tool": "no-such-package"}
    def build(self, settings, tar, *, log, base, slowness):
        tar.write_text(settings.colour)

register(_Empty())
'''
    )
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "image.toml").write_text('[bootstrap]\nmethod = "empty"\ncolour = "red"\n')
    script = """
from pathlib import Path
from pipeline import bootstrap
from pipeline.command import SILENT
from pipeline.image import load
from pipeline.image.document import page, schema
image = load(Path("some"))
method = bootstrap.get("empty")
method.make(image.bootstrap, Path("out.tar"), log=SILENT, base=image.folder, slowness=1.0)
print(Path("out.tar").read_text(), "Its colour." in page(), "Empty" in schema()["$defs"])
print(bootstrap.missing_tools(method))
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[0] == "red True True"
    assert "goldspawn-no-such-tool (package no-such-package)" in ended.stdout


def test_missing_tools_are_named_with_their_packages_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    error = bootstrap.missing_tools(bootstrap.get("mmdebstrap"))
    assert isinstance(error, PlaceError)
    assert "mmdebstrap (package mmdebstrap)" in str(error)
    assert "setpriv (package util-linux)" in str(error)


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tar that mmdebstrap makes, with a program that has a capability."""
    if shutil.which("mmdebstrap") is None or os.geteuid() != 0:
        pytest.skip("needs mmdebstrap and root")
    made = make(tmp_path_factory.mktemp("bootstrap"), f'suite = "{SUITE}"\npackages = ["libcap2-bin", "fping"]')
    yield made
    made.unlink()


def test_tree_has_what_makes_it_a_machine(tar: Path) -> None:
    found = members(tar)
    needed = [
        "usr/sbin/init", "usr/lib/systemd/systemd", "usr/bin/dbus-daemon", "usr/sbin/agetty", "usr/bin/login",
        "usr/bin/apt-get",
        "usr/lib/systemd/system/console-getty.service", "usr/share/man",
    ]  # fmt: skip
    assert [name for name in needed if name not in found] == []
    assert any(name.endswith("/security/pam_systemd.so") for name in found)


def test_tree_keeps_owners_devices_capabilities_and_acls(tar: Path) -> None:
    found = members(tar)
    assert (found["dev/null"].type, found["dev/null"].devmajor, found["dev/null"].devminor) == (tarfile.CHRTYPE, 1, 3)
    assert found["etc/shadow"].gid == 42
    assert found["usr/bin/su"].mode == 0o4755
    assert "SCHILY.xattr.security.capability" in found["usr/bin/fping"].pax_headers
    assert "group:adm:r-x" in found["var/log/journal"].pax_headers["SCHILY.acl.access"]
    assert tar.stat().st_mode & 0o077 == 0, "it holds /etc/shadow"


def test_tree_holds_nothing_of_its_making(tar: Path) -> None:
    found = members(tar)
    left = [
        name for name, member in found.items()
        if name.endswith((".deb", "/policy-rc.d")) or "99mmdebstrap" in name
        or name in ("etc/hostname", "etc/resolv.conf", "var/log/dpkg.log", "var/lib/dbus/machine-id")
        or (name.startswith(("tmp/", "run/")) and not member.isdir())
    ]  # fmt: skip
    assert left == []
    assert found["etc/machine-id"].size == 0


def test_machine_can_go_on_with_apt(tar: Path) -> None:
    """Its sources are the archive with updates and security, signed by keys that are there."""
    suites = [line.split()[-2] for line in text_of(tar, "etc/apt/sources.list").splitlines() if line.startswith("deb")]
    assert suites == [SUITE, f"{SUITE}-updates", f"{SUITE}-security"]
    assert "usr/share/keyrings/debian-archive-keyring.gpg" in members(tar)


@needs_root
@needs_mmdebstrap
def test_an_unknown_suite_is_named_with_its_key(tmp_path: Path) -> None:
    error = failure(tmp_path, 'suite = "nosuch"')
    assert isinstance(error, CommandFailed)
    assert "does not have a Release file" in error.tail
    assert error.hint == (
        'bootstrap.suite of image.toml: "nosuch" is no suite of the mirror; "stable" is one, or a code name'
    )


@needs_root
@needs_mmdebstrap
def test_an_unknown_package_is_named_with_its_key(tmp_path: Path) -> None:
    error = failure(tmp_path, f'suite = "{SUITE}"\npackages = ["nano", "nginxx"]')
    assert error.hint == "bootstrap.packages of image.toml names nginxx, which no repository of the image has"


@needs_root
@needs_mmdebstrap
def test_an_unknown_component_is_named_with_its_key(tmp_path: Path) -> None:
    error = failure(tmp_path, f'suite = "{SUITE}"\ncomponents = ["main", "foo"]')
    assert str(error).startswith('bootstrap.components of image.toml: "foo" is no component of suite')


@needs_root
@needs_mmdebstrap
def test_a_mirror_that_does_not_answer_is_named_with_its_key_soon(tmp_path: Path) -> None:
    started = time.monotonic()
    error = failure(tmp_path, f'suite = "{SUITE}"\nmirror = "{DEAD}"')
    assert error.hint == f'bootstrap.mirror of image.toml: "{DEAD}" does not answer'
    assert time.monotonic() - started < 60


@needs_root
@needs_mmdebstrap
def test_a_further_repository_that_does_not_answer_is_named_with_its_key(tmp_path: Path) -> None:
    text = f'suite = "{SUITE}"\nrepositories = [{{ uri = "{DEAD}", suite = "x" }}]'
    assert failure(tmp_path, text).hint == f'bootstrap.repositories[0].uri of image.toml: "{DEAD}" does not answer'


@needs_root
@needs_debootstrap
def test_debootstrap_makes_the_same_machine(tmp_path: Path) -> None:
    made = make(tmp_path, f'method = "debootstrap"\nsuite = "{SUITE}"')
    found = members(made)
    assert {"usr/sbin/init", "usr/bin/dbus-daemon", "usr/sbin/agetty", "dev/null"} <= set(found)
    left = {"usr/sbin/policy-rc.d", "etc/apt/apt.conf.d/99goldspawn", "etc/hostname", "var/log/bootstrap.log"}
    assert left & set(found) == set()
    assert [name for name in found if name.endswith(".deb")] == []
    assert found["etc/machine-id"].size == 0
    suites = [line.split()[2] for line in text_of(made, "etc/apt/sources.list").splitlines() if line.startswith("deb")]
    assert suites == [SUITE, f"{SUITE}-updates", f"{SUITE}-security"]


@needs_root
@needs_debootstrap
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('suite = "nosuch"', 'bootstrap.suite of image.toml: "nosuch" is no suite of the mirror'),
        (f'suite = "{SUITE}"\nmirror = "{DEAD}"', f'bootstrap.mirror of image.toml: "{DEAD}" does not answer'),
    ],
    ids=["unknown suite", "mirror that does not answer"],
)
def test_debootstrap_names_the_key_that_is_wrong(text: str, expected: str, tmp_path: Path) -> None:
    error = failure(tmp_path, f'method = "debootstrap"\n{text}')
    assert str(error.hint).startswith(expected)


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("E: Couldn't find these debs: nginxx", "bootstrap.packages of image.toml names nginxx"),
        ("E: Package 'nginxx' has no installation candidate", "bootstrap.packages of image.toml names nginxx"),
        ("E: Unable to locate package systemd-sysv", 'suite "trixie" (bootstrap.suite of image.toml) does not have'),
        (
            "E: The repository 'https://x.example/deb sid Release' does not have a Release file.",
            'bootstrap.repositories[0].suite of image.toml: "sid" is no suite of https://x.example/deb',
        ),
        ("W: GPG error: https://x.example/deb sid: NO_PUBKEY 6ED0E7B8", "bootstrap.repositories[0].key of image.toml"),
        ("E: The repository 'http://other.example sid InRelease' is not signed.", "this machine has no key"),
        ("E: Release file for http://y.example/InRelease is expired (invalid since 17d)", "the mirror is out of date"),
        ("Temporary failure resolving 'mirror'", "Debian's mirror does not answer"),
        ("tar: No space left on device", "free some room"),
    ],
)
def test_what_a_tool_says_is_told_as_a_key_of_image_toml(tail: str, expected: str, tmp_path: Path) -> None:
    text = 'suite = "trixie"\npackages = ["nginxx"]\nrepositories = [{uri = "https://x.example/deb", suite = "sid"}]'
    settings: Any = image(tmp_path, text).bootstrap
    assert str(hint(settings, tail)).startswith(expected)


def test_an_output_that_tells_nothing_gets_no_hint(tmp_path: Path) -> None:
    settings: Any = image(tmp_path, "").bootstrap
    assert hint(settings, "Segmentation fault") is None


@pytest.mark.parametrize(("key", "ending"), [(b"\x99\x01\x0d\x04binary", "gpg"), (b"-----BEGIN PGP PUBLIC", "asc")])
def test_a_repository_brings_its_key_along(key: bytes, ending: str, tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "some/a.key").write_bytes(key)
    made = image(tmp_path, 'repositories = [{uri = "https://x.example/deb/", suite = "./", key = "a.key"}]')
    settings: Any = made.bootstrap
    (files,) = repository_files(settings, made.folder)
    assert files.key_path == f"/etc/apt/keyrings/x-example-deb.{ending}"
    assert files.final.splitlines() == [
        "Types: deb", "URIs: https://x.example/deb/", "Suites: ./", f"Signed-By: {files.key_path}",
    ]  # fmt: skip
    assert "Signed-By:\n -----BEGIN PGP PUBLIC" in files.building
    assert made.key_files == [made.folder / "a.key"]


def test_a_repository_without_a_key_is_signed_by_debians() -> None:
    text = Repository(uri="https://x.example/deb", suite="sid").sources(" /usr/share/keyrings/x.gpg")
    assert text.splitlines()[2:4] == ["Suites: sid", "Components: main"]


@needs_root
def test_packing_keeps_what_only_extended_attributes_hold(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "tool").write_text("x")
    os.chown(tree / "tool", 4321, 8765)
    os.setxattr(tree / "tool", "user.note", b"kept")
    pack(tree, tmp_path / "tar", log=SILENT, timeout=60)
    tool = members(tmp_path / "tar")["tool"]
    assert (tool.uid, tool.gid, tool.uname) == (4321, 8765, "")
    assert tool.pax_headers["SCHILY.xattr.user.note"] == "kept"


def test_a_failed_build_leaves_nothing_and_the_old_tar_as_it_was(tmp_path: Path) -> None:
    old = tmp_path / "out/root.tar"
    old.parent.mkdir()
    old.write_text("old")
    with pytest.raises(RuntimeError), scratch(old) as work:
        (work / "root.tar").write_text("half")
        raise RuntimeError
    assert [path.name for path in old.parent.iterdir()] == ["root.tar"]
    assert old.read_text() == "old"


KILLED = """
import sys, time
from pathlib import Path
from pipeline.bootstrap.apart import apart
from pipeline.scratch import scratch
from pipeline.command import BuildLog, run
class Log(BuildLog):
    def command(self, argv): pass
    def line(self, text): print("up", flush=True)
with scratch(Path(sys.argv[1])) as work:
    (work / "half").touch()
    mount = "mount -t tmpfs tmpfs . && " if sys.argv[2] == "0" else ""
    run(apart(["sh", "-c", f"cd {work}; {mount}touch started; echo; sleep 1234.5678"]), timeout=60, log=Log())
"""


def test_a_killed_build_leaves_no_process_and_no_mount_and_the_next_clears_the_rest(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "root.tar"), str(os.geteuid())]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as build:
        assert build.stdout is not None
        while build.stdout.readline().strip() != "up":
            assert build.poll() is None
        build.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (running := _sleepers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    (left,) = tmp_path.iterdir()
    with scratch(tmp_path / "root.tar") as work:
        assert list(tmp_path.iterdir()) == [work]
        assert work != left


def test_a_build_at_work_is_left_alone_by_another(tmp_path: Path) -> None:
    with scratch(tmp_path / "one.tar") as one, scratch(tmp_path / "other.tar") as other:
        assert one.is_dir() and other.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_commands_end_with_us() -> None:
    assert apart(["true"])[:2] == ["setpriv", "--pdeathsig=KILL"]


def _sleepers() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"1234.5678" in path.read_bytes() and b"python" not in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found
