"""Several build hosts: images are built there, artifacts arrive here, and a host that is lost fails its images only.

The hosts of these tests are two ssh servers of this machine, each with a dataset and a cache of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.artifact import manifest, verify
from pipeline.place import Place
from tests.conftest import Session, Sessions
from tests.test_parallel import TARBALL, checks

TEST = "def test_it_runs(machine): assert machine.service('dbus').is_running\n"


@dataclass(frozen=True)
class Server:
    """A host of the tests: its name, its ssh server's process, what --build-host calls it, and its folder."""

    name: str
    process: subprocess.Popen[bytes]
    option: str
    folder: Path
    dataset: str

    def processes(self) -> list[int]:
        """The processes below the ssh server, itself included."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def unpacks(self, image: str) -> bool:
        """Whether the host is in the middle of an image's bootstrap."""
        return any("$ tar --extract" in log.read_text() for log in self.folder.glob(f"hosts/*/logs/{image}.log"))

    def lose(self) -> None:
        """Lets the host be gone from one moment to the next."""
        for sign in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: nothing is told by those that die last
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)


@pytest.fixture(scope="module")
def servers(bootstrapped: Place, small_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two hosts, known to the ssh configuration of the tests by keys of the tests' own."""
    folder = tmp_path_factory.mktemp("hosts")
    for key in ("user", "server"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    with contextlib.ExitStack() as stack:
        config = folder / "ssh_config"
        known, lines, made = [], [], []
        for name in ("build1", "build2"):
            port = _free_port()
            process = stack.enter_context(_sshd(folder, port))
            public = (folder / "server.pub").read_text().split()
            known.append(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")
            lines.append(
                f"Host {name}\n HostName 127.0.0.1\n Port {port}\n User root\n IdentityFile {folder}/user\n"
                f" IdentitiesOnly yes\n UserKnownHostsFile {folder}/known_hosts\n StrictHostKeyChecking yes\n"
            )
            dataset = f"{bootstrapped.layout.base}/{name}"
            subprocess.run(["zfs", "create", "-o", "mountpoint=none", dataset], check=True)
            stack.callback(_destroy, dataset)
            cache = folder / name
            (cache / "exchange/tars").mkdir(parents=True)
            for file in (small_tar, small_tar.with_suffix(".world")):  # which says what it is made of: so it holds
                (cache / "exchange/tars" / file.name).symlink_to(file)
            option = f"root@{name}//ssh_config={config}//env:GOLDSPAWN_DATASET={dataset}//env:GOLDSPAWN_CACHE={cache}"
            made.append(Server(name, process, option, cache, dataset))
        lines.append(f"Host gone\n HostName 127.0.0.1\n Port {_free_port()}\n")
        config.write_text("".join(lines))
        (folder / "known_hosts").write_text("".join(known))
        yield made


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _sshd(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    config = folder / f"sshd_config.{port}"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/server\nAuthorizedKeysFile {folder}/user.pub\n"
        f"PermitRootLogin yes\nStrictModes no\nUsePAM no\nPidFile none\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", config])
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


def _destroy(dataset: str) -> None:
    """Destroys a host's dataset, with what a lost host left mounted."""
    mounts = [line.split()[:2] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for where in (where for what, where in mounts if what.startswith(f"{dataset}/")):
        subprocess.run(["umount", where], check=True)
    again = f"for try in 1 2 3 4 5 6; do zfs destroy -r {dataset} && exit; sleep 2; done; exit 1"
    subprocess.run(["sh", "-c", again], check=True)


@pytest.fixture(scope="module")
def run(servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> tuple[Sessions, Session]:
    """A session on three hosts: one was never there, one is lost in the middle of its image."""
    folder = tmp_path_factory.mktemp("run")
    sessions = Sessions(folder)
    for name in ("good", "lost"):
        sessions.image(name, tests=TEST)
    options = [f"--build-host={server.option}" for server in servers]
    gone = f"--build-host=root@gone//ssh_config={servers[0].folder.parent}/ssh_config"
    process = sessions.start(gone, *options, env={"GOLDSPAWN_NO_REPORT": "no"})
    deadline = time.monotonic() + 400
    try:
        while not (busy := [server for server in servers if server.unpacks("lost")]):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=60)[0]
            time.sleep(0.2)
        busy[0].lose()
        output, _ = process.communicate(timeout=600)
    finally:
        process.kill()
    print(output)
    return sessions, Session(process.returncode, output)


def test_what_was_built_on_a_host_arrives_here_whole(run: tuple[Sessions, Session], servers: list[Server]) -> None:
    sessions, session = run
    assert len(checks(session, "good", "PASSED")) == 14, session.output
    manifest = verify.check(sessions.artifacts / "good")
    assert manifest.image == "good"
    assert f"{sessions.artifacts}/good: good-" in session.output, "the words of how to receive it name it here"
    goldens = [f"{server.dataset}/golden/good" for server in servers]
    found = subprocess.run(["zfs", "list", "-H", "-o", "name", *goldens], capture_output=True, text=True).stdout
    assert len(found.split()) == 1, "it was built on one host, in that one's dataset"


def test_a_lost_host_fails_its_image_and_no_other(run: tuple[Sessions, Session]) -> None:
    sessions, session = run
    assert session.status == 1
    assert checks(session, "lost", "FAILED")[0] == "bootstrap", session.output
    assert re.search(
        r"build host root@build[12] is lost: it died while it was at lost/image.toml::bootstrap", session.output
    )
    assert checks(session, "lost", "BLOCKED") == [
        "cycles", "profile", "boot", "machinectl_list", "machinectl_show", "machinectl_status", "machinectl_shell",
        "machinectl_login", "machinectl_reboot", "test_it_runs", "machinectl_poweroff", "snapshot",
    ]  # fmt: skip
    assert not (sessions.artifacts / "lost").exists()
    assert "INTERNALERROR" not in session.output


def test_a_host_that_was_never_there_is_left_out_and_named(run: tuple[Sessions, Session]) -> None:
    assert "goldspawn: left out: build host root@gone cannot be reached: " in run[1].output


def test_logs_and_timeline_are_where_the_run_was_started(run: tuple[Sessions, Session]) -> None:
    sessions, _ = run
    assert "### good: snapshot" in (sessions.artifacts / "logs/good.log").read_text()
    drawn = (sessions.artifacts / "timeline.svg").read_text()
    assert all(f">{name}</text>" in drawn for name in ("build1", "build2", "good", "lost"))
    page = (sessions.artifacts / "reports/index.html").read_text()
    assert "<title>2 images: 1 failed, 1 passed</title>" in page
    assert "on build host root@build1, build host root@build2</p>" in page
    assert "bootstrap: build host root@build" in page and manifest.load(sessions.artifacts / "good").version in page


def test_a_host_keeps_no_copy_of_what_it_sent(run: tuple[Sessions, Session], servers: list[Server]) -> None:
    (living,) = [server for server in servers if server.process.poll() is None]
    assert [path for path in (living.folder / "hosts").iterdir() if ".run-" in path.name] == []


def test_what_is_here_already_is_not_sent_again(run: tuple[Sessions, Session], servers: list[Server]) -> None:
    sessions, _ = run
    (living,) = [server for server in servers if server.process.poll() is None]
    before = (sessions.artifacts / "good/manifest.json").stat()
    ended = sessions.run(f"--build-host={living.option}", "--image=good")
    assert ended.status == 0, ended.output
    assert f"{sessions.artifacts}/good is of this snapshot, and whole" in ended.output
    assert (sessions.artifacts / "good/manifest.json").stat().st_ino == before.st_ino


def test_a_delta_comes_beside_what_was_here(run: tuple[Sessions, Session], servers: list[Server]) -> None:
    sessions, _ = run
    (living,) = [server for server in servers if server.process.poll() is None]
    artifact = sessions.artifacts / "good"
    first = manifest.load(artifact)
    sessions.image("good", tests=TEST, root={"etc/motd": "second\n"})
    second = sessions.run(f"--build-host={living.option}", "--image=good", "--deltas=previous")
    assert second.status == 0, second.output
    made = verify.check(artifact)
    assert [delta.origin.guid for delta in made.deltas] == [first.snapshot.guid]
    assert made.deltas[0].size < made.stream.size / 20
    assert made.changes is not None and made.changes.version == first.version
    # Written again without a boot: what the machine said, and the deltas, are those that came with it.
    journal = (artifact / "journal.log").read_bytes()
    assert journal
    with (artifact / made.stream.file).open("ab") as file:
        file.write(b"X")
    third = sessions.run(f"--build-host={living.option}", "--image=good")
    assert third.status == 0, third.output
    again = verify.check(artifact)
    assert (again.deltas, again.boot) == (made.deltas, made.boot)
    assert again.boot is not None
    assert (artifact / "journal.log").read_bytes() == journal


def test_a_host_that_dies_before_anything_began_is_left_out(
    servers: list[Server], sessions: Sessions, tmp_path: Path
) -> None:
    """It is beside one that pytest-xdist itself names, which builds an image that is named by its folder."""
    (living,) = [server for server in servers if server.process.poll() is None]
    mortal = tmp_path / "python"
    # What execnet starts has -u; what goldspawn asks before has not.
    mortal.write_text('#!/bin/sh\n[ "$1" = -u ] && exit 255\nexec /usr/bin/python3 "$@"\n')
    mortal.chmod(0o755)
    elsewhere = tmp_path / "elsewhere"
    for name, definition in (("base", TARBALL), ("top", 'from = "base"\n')):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "image.toml").write_text(definition)
    (elsewhere / "root.tar").touch()
    dying = f"--build-host={living.option}//python={mortal}"
    ended = sessions.run("-d", f"--tx=ssh={living.option}", dying, str(elsewhere / "top"), "-k", "dataset")
    assert ended.status == 0, ended.output
    assert checks(ended, r"\S*top", "PASSED") == ["dataset"], ended.output
    assert f"goldspawn: left out: build host root@{living.name} is lost: it died before anything began" in ended.output
    alone = sessions.run(dying, str(elsewhere / "top"), "-k", "dataset")
    assert alone.status == 4, alone.output
    assert f"ERROR: build host root@{living.name} is lost: it died before anything began there" in alone.output
    assert "INTERNALERROR" not in ended.output + alone.output


def test_a_python_that_lacks_what_is_needed_is_named(servers: list[Server], sessions: Sessions) -> None:
    sessions.image("good")
    (living,) = [server for server in servers if server.process.poll() is None]
    ended = sessions.run(f"--build-host={living.option}//python=/usr/bin/nothing")
    assert ended.status == 4, ended.output
    assert "build host root@build" in ended.output and "none of /usr/bin/nothing is there" in ended.output
    assert "run ./setup in a checkout there, and name its Python: //python=PATH" in ended.output
