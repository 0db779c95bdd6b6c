"""The appliance: what can be said without one, and what its user notices of one that runs.

The tests that start one run on a cache of their own that borrows the user's built files, so that they neither wait
for a guest that is in use nor touch its pool.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import command
from pipeline.appliance import Guest, Share, build, missing_tools, namespace, recipe, running
from pipeline.appliance.link import Link, control_path
from pipeline.appliance.qemu import copy_sparse
from pipeline.appliance.share import NO_VIRTIOFS, plan
from pipeline.appliance.store import Store
from pipeline.command import BuildLog
from pipeline.errors import InputError, PlaceError

REPOSITORY = Path(__file__).resolve().parents[1]


def test_shares_are_mounted_outer_ones_first_and_once(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    shares = [Share(inner, True), Share(tmp_path, False), Share(inner / ".." / "b", False)]
    assert plan(shares) == [Share(tmp_path, False), Share(inner, True)]


@pytest.mark.parametrize("path", ["relative", "/", "/does/not/exist"])
def test_a_share_that_cannot_be_is_named(path: str) -> None:
    with pytest.raises(InputError, match="cannot share"):
        plan([Share(Path(path), False)])


def test_the_shares_daemon_may_keep_as_many_files_open_as_this_user_may(tmp_path: Path) -> None:
    """It keeps each that the guest knows: with 1024, the usual limit of a plain user, the shares break in minutes."""
    serve = [sys.executable, "-I", str(recipe.FILES / "serve.py"), "/mnt", json.dumps([[str(tmp_path), False]])]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    done = subprocess.run(
        namespace.inside([*serve, "sh", "-c", "ulimit -n"]),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == str(hard), done.stderr


def test_the_key_follows_the_recipe_only(monkeypatch: pytest.MonkeyPatch) -> None:
    key = recipe.key()
    assert key == recipe.key()
    monkeypatch.setattr(recipe, "PACKAGES", (*recipe.PACKAGES, "hello"))
    assert recipe.key() != key


def test_libraries_bring_what_they_need_in_the_versions_of_here() -> None:
    names = [line.partition("==")[0] for line in recipe.requirements()]
    assert {"pytest", "pluggy", "execnet", "pydantic-core", "ptyprocess"} <= set(names)
    assert len(names) == len(set(names))
    assert not {"mypy", "coverage", "paramiko"} & set(names)


def test_everything_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.appliance import tools

    monkeypatch.setattr(tools.shutil, "which", lambda tool, path=None: None)
    assert {("mmdebstrap", "mmdebstrap"), ("ssh", "openssh-client")} <= set(missing_tools())
    with pytest.raises(PlaceError, match=r"(?s)qemu-system-x86_64.*mmdebstrap.*apt install"):
        tools.require_tools()


def test_a_copy_keeps_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(256 << 20)
        file.seek(100 << 20)
        file.write(b"x" * 10_000)
    with target.open("wb") as file:
        file.truncate(256 << 20)
        copy_sparse(source, file.fileno())
    assert target.stat().st_blocks * 512 < 1 << 20
    with target.open("rb") as file:
        file.seek(100 << 20)
        assert file.read(10_001) == b"x" * 10_000 + b"\0"


def test_a_command_keeps_its_words_on_the_way(tmp_path: Path) -> None:
    argv = Link(2222, tmp_path, None).argv(["printf", "%s", "a b'c\n$HOME"], forward={"/run/x": Path("/tmp/y")})
    assert argv[-1] == "printf %s 'a b'\"'\"'c\n$HOME'"
    assert "/run/x:/tmp/y" in argv
    assert control_path(Path("/" + "x" * 100)) is None


def test_a_second_user_of_a_cache_waits_and_says_for_whom(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pipeline.appliance.store import Store\n"
        "from pipeline.command import SILENT\n"
        f"with Store(Path({str(tmp_path)!r})).held(SILENT):\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        holder.stdout.readline()
        lines: list[str] = []

        def said(line: str) -> None:
            lines.append(line)
            assert holder.stdin is not None
            holder.stdin.close()

        with Store(tmp_path).held(BuildLog(on_line=said)):
            assert Store(tmp_path).held_by() == os.getpid()
    assert lines == [f"waiting for the appliance, held by process {holder.pid}"]


def test_what_a_killed_build_left_is_cleared_by_the_next_holder(tmp_path: Path) -> None:
    for name in ("building-1/tools", "0123456789ab/saving-2", "0123456789ab/state-3"):
        (tmp_path / name).mkdir(parents=True)
    with Store(tmp_path).held(BuildLog()):
        pass
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_dir()) == [
        "0123456789ab", "0123456789ab/state-3",
    ]  # fmt: skip


def test_a_built_appliance_that_changed_is_noticed(tmp_path: Path) -> None:
    for name in ("vmlinuz", "initrd", "root.erofs"):
        (tmp_path / name).write_text(name)
    assert build.damaged(tmp_path)
    (tmp_path / "digests").write_text(build._digests(tmp_path))
    assert not build.damaged(tmp_path)
    (tmp_path / "initrd").write_text("other")
    assert build.damaged(tmp_path)


def test_a_build_of_which_one_half_fails_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(work: Path, given: Path, log: BuildLog) -> None:
        raise PlaceError("no root file system")

    monkeypatch.setattr(build, "_modules", lambda work, log: command.run(["sleep", "100"], timeout=200))
    monkeypatch.setattr(build, "_root", fails)
    monkeypatch.setattr(build.namespace, "check", lambda: None)
    started = time.monotonic()
    with pytest.raises(PlaceError, match="no root file system"):
        build.built(Store(tmp_path), BuildLog())
    assert time.monotonic() - started < 20
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def cache(borrowed_cache: Path) -> Path:
    """A cache with the user's built appliance, and a pool of its own."""
    return borrowed_cache


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    (folder / "inner").mkdir()
    (folder / "file").write_text("from outside")
    return folder


@pytest.fixture(scope="module")
def guest(cache: Path, shared: Path) -> Iterator[Guest]:
    shares = [Share(REPOSITORY, False), Share(shared, False), Share(shared / "inner", True)]
    with running(shares, log=BuildLog(), cache=cache) as guest:
        yield guest


def inside(guest: Guest, script: str) -> str:
    done = subprocess.run(guest.command(["sh", "-c", script]), capture_output=True, text=True, timeout=120)
    return (done.stdout + done.stderr).strip()


def test_the_exit_status_of_a_command_comes_out(guest: Guest) -> None:
    assert subprocess.run(guest.command(["sh", "-c", "exit 7"])).returncode == 7
    assert guest.alive()


def test_the_guest_has_a_pool_and_a_healthy_systemd(guest: Guest) -> None:
    assert inside(guest, "zpool list -H -o health goldspawn; systemctl is-system-running") == "ONLINE\nrunning"


def test_the_clock_is_right(guest: Guest) -> None:
    assert abs(float(inside(guest, "date +%s")) - time.time()) < 20


def test_shares_lie_at_their_own_paths_and_only_the_writable_one_can_be_written(guest: Guest, shared: Path) -> None:
    assert inside(guest, f"cat {shared}/file") == "from outside"
    assert "Read-only file system" in inside(guest, f"touch {shared}/new")
    assert "Read-only file system" in inside(
        guest, "mount --bind /run/goldspawn-shares/0 /mnt; mount -o remount,bind,rw /mnt; touch /mnt/new; umount /mnt"
    )
    assert inside(guest, f"echo from inside > {shared}/inner/new") == ""
    assert (shared / "inner" / "new").read_text() == "from inside\n"


def test_the_libraries_of_here_are_there(guest: Guest) -> None:
    wanted = "pexpect, pydantic, pytest, testinfra, xdist, tenacity, filelock, platformdirs, libzfs_core"
    assert inside(guest, f"python3 -c 'import {wanted}; print(pytest.__version__)'") == pytest.__version__


def test_a_socket_outside_can_be_reached_from_inside(guest: Guest, tmp_path: Path) -> None:
    import socket
    import threading

    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(tmp_path / "socket"))
    listening.listen()

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"answered")

    code = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/line'); print(s.recv(99).decode())"
    for _ in range(2):  # a second session finds the socket of the first, and replaces it
        threading.Thread(target=answer, daemon=True).start()
        argv = guest.command(["python3", "-c", code], forward={"/run/line": tmp_path / "socket"})
        assert subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout.strip() == "answered"
    listening.close()


def test_a_terminal_has_its_size_and_type(guest: Guest) -> None:
    import pexpect

    argv = guest.command(["sh", "-c", "stty size; echo $TERM"], tty=True)
    child = pexpect.spawn(argv[0], argv[1:], dimensions=(33, 77), env={**os.environ, "TERM": "xterm-256color"})
    child.expect("33 77", timeout=30)
    child.expect("xterm-256color", timeout=30)
    child.expect(pexpect.EOF, timeout=30)


HOLDING = """
import sys, time
from pathlib import Path
from pipeline.appliance import Share, running
from pipeline.command import BuildLog
log = BuildLog(on_line=lambda line: print(line, file=sys.stderr, flush=True))
with running([Share(Path(sys.argv[2]), True)], log=log, cache=Path(sys.argv[1])) as guest:
    import subprocess
    subprocess.run(guest.command(["sh", "-c", sys.argv[3]]), check=True)
    print(guest.pid, guest.started, flush=True)
    sys.stdin.read()
"""


def test_a_killed_run_leaves_no_guest_and_a_pool_that_works(cache: Path, shared: Path, tmp_path: Path) -> None:
    second = cache.with_name(f"{cache.name}-killed")
    try:
        shutil.copytree(cache, second, copy_function=os.link, ignore=shutil.ignore_patterns("pool.img", "lock", "ssh"))
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        script = "zfs create -o mountpoint=/run/kept goldspawn/kept && echo kept > /run/kept/file && sync"
        with subprocess.Popen(
            [sys.executable, "-c", HOLDING, str(second), str(shared / "inner"), script],
            cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as holder:  # fmt: skip
            assert holder.stdout is not None
            pid = int(holder.stdout.readline().split()[0])
            family = descendants(holder.pid)
            assert pid in family and len(family) >= 3
            holder.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while (left := [each for each in family if alive(each)]) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left
        assert not list(tmp_path.iterdir())
        with running([Share(shared, False)], log=BuildLog(), cache=second) as guest:
            assert inside(guest, "zfs mount goldspawn/kept; cat /run/kept/file") == "kept"
    finally:
        shutil.rmtree(second, ignore_errors=True)


def test_a_damaged_state_and_a_damaged_pool_cost_a_boot_and_no_more(cache: Path, shared: Path) -> None:
    second = cache.with_name(f"{cache.name}-damaged")
    try:
        shutil.copytree(cache, second, copy_function=os.link, ignore=shutil.ignore_patterns("pool.img", "lock", "ssh"))
        for path in second.glob("*/state-*/devices"):
            path.unlink()  # a hard link: the original stays
            path.write_bytes(b"rubbish")
        lines: list[str] = []
        (second / "pool.img").write_bytes(b"rubbish" * 1_000_000)
        with running([Share(shared, False)], log=BuildLog(on_line=lines.append), cache=second) as guest:
            assert guest.started == "booted"
            assert inside(guest, "zpool list -H -o health goldspawn") == "ONLINE"
        assert not any("Traceback" in line for line in lines)
    finally:
        shutil.rmtree(second, ignore_errors=True)


def test_without_a_virtiofs_daemon_shares_are_copied(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = cache.with_name(f"{cache.name}-copies")
    monkeypatch.setenv(NO_VIRTIOFS, "1")
    (tmp_path / "inner").mkdir()
    (tmp_path / "file").write_text("from outside")
    try:
        shutil.copytree(cache, second, copy_function=os.link, ignore=shutil.ignore_patterns("pool.img", "lock", "ssh"))
        shares = [Share(tmp_path, False), Share(tmp_path / "inner", True)]
        with running(shares, log=BuildLog(), cache=second) as guest:
            assert inside(guest, f"cat {tmp_path}/file") == "from outside"
            assert "Read-only" in inside(guest, f"touch {tmp_path}/new")
            assert inside(guest, f"echo from inside > {tmp_path}/inner/new") == ""
        assert (tmp_path / "inner" / "new").read_text() == "from inside\n"
    finally:
        shutil.rmtree(second, ignore_errors=True)


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
