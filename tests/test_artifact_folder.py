"""A folder of artifacts appears whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.artifact import folder
from pipeline.errors import PlaceError

REPOSITORY = Path(__file__).parent.parent


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_it_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "image"
    with folder.publishing(target) as partial:
        (partial / "file").write_text("new")
        assert not target.exists()
    assert names(tmp_path) == ["image"]
    assert (target / "file").read_text() == "new"


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "in two steps"])
def test_it_takes_the_place_of_the_old_one(exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:
        monkeypatch.setattr(folder, "_exchange", lambda one, other: False)
    target = tmp_path / "image"
    for text in ("old", "new"):
        with folder.publishing(target) as partial:
            (partial / text).write_text(text)
    assert names(tmp_path) == ["image"]
    assert names(target) == ["new"]


def test_this_file_system_can_exchange(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert folder._exchange(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path / "a") == ["b"]


def test_an_error_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "image"
    with folder.publishing(target) as partial:
        (partial / "old").touch()
    with pytest.raises(KeyboardInterrupt), folder.publishing(target) as partial:
        (partial / "new").touch()
        raise KeyboardInterrupt
    assert (names(tmp_path), names(target)) == (["image"], ["old"])


def test_an_error_between_two_steps_brings_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_exchange", lambda one, other: False)
    target = tmp_path / "image"
    with folder.publishing(target) as partial:
        (partial / "old").touch()
    rename = Path.rename

    def fail(self: Path, to: Path) -> Path:
        if ".whole-" in self.name:
            raise OSError(5, "Input/output error", str(self))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(PlaceError, match="Input/output error"), folder.publishing(target) as partial:
        (partial / "new").touch()
    assert (names(tmp_path), names(target)) == (["image"], ["old"])


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.artifact import folder
target, calls, exchange = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1"
if not exchange:
    folder._exchange = lambda one, other: False
count = 0
def watch(event, arguments):
    global count
    if event in ("os.mkdir", "os.rename", "os.rmdir", "os.remove", "open", "fcntl.flock", "ctypes.dlsym", "os.scandir"):
        if any(str(target.parent) in str(one) for one in arguments) or event == "ctypes.dlsym":
            count += 1
            if count == calls:
                os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
with folder.publishing(target) as partial:
    (partial / "new").write_text("new")
    (partial / "also new").write_text("new")
"""


@pytest.mark.parametrize("exchange", [1, 0], ids=["in one step", "in two steps"])
@pytest.mark.parametrize("old", [True, False], ids=["with an old one", "the first one"])
def test_killed_at_any_point_it_is_the_old_or_the_new_one(old: bool, exchange: int, tmp_path: Path) -> None:
    """Killed before each call that touches the file system, one after the other, until it ends by itself."""
    seen = set()
    for calls in range(1, 60):
        artifacts = tmp_path / str(calls)
        (artifacts / "image").mkdir(parents=True)
        (artifacts / "image/old").touch()
        if not old:
            (artifacts / "image/old").unlink()
            (artifacts / "image").rmdir()
        argv = [sys.executable, "-c", KILLED, artifacts / "image", str(calls), str(exchange)]
        status = subprocess.run(argv, cwd=REPOSITORY).returncode
        assert status in (0, -signal.SIGKILL)
        folder.sweep(artifacts)
        left = names(artifacts / "image") if (artifacts / "image").exists() else []
        assert left in (["also new", "new"], ["old"] if old else [])
        assert names(artifacts) in (["image"], [] if not old else ["image"])
        seen.add(tuple(left))
        if status == 0:
            break
    else:
        pytest.fail("it never ended by itself")
    assert len(seen) == 2


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    script = (
        "import sys; from pathlib import Path; from pipeline.artifact import folder\n"
        "with folder.publishing(Path(sys.argv[1])) as partial:\n"
        "    print('writing', flush=True); sys.stdin.readline()"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "image")]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_sweep_leaves_the_living_alone(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    assert writer.stdout is not None
    writer.stdout.readline()
    assert folder.sweep(tmp_path) == []
    assert len(names(tmp_path)) == 1
    writer.kill()
    writer.wait(10)
    assert [path.name.split("-")[0] for path in folder.sweep(tmp_path)] == [".image.partial"]
    assert names(tmp_path) == []


def test_sweep_keeps_to_one_image(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f".{name}.partial-1-ab").mkdir()
    folder.sweep(tmp_path, "one")
    assert names(tmp_path) == [".two.partial-1-ab"]


def test_sweep_leaves_what_is_not_ours(tmp_path: Path) -> None:
    for name in ("image", ".git", ".image.partial", "image.partial-1-ab"):
        (tmp_path / name).mkdir()
    assert folder.sweep(tmp_path) == []


def test_a_missing_directory_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match=r"artifacts does not exist\nhint: mkdir -p "):
        folder.publishing(tmp_path / "artifacts/image").__enter__()
    with pytest.raises(PlaceError, match="is no directory"):
        folder.sweep(tmp_path / "artifacts")


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "image").touch()
    with pytest.raises(PlaceError, match="image is in the way: it is no directory"):
        folder.publishing(tmp_path / "image").__enter__()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    path = tmp_path / "small"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", path], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_directory_is_one_clear_line(small: Path) -> None:
    with (
        pytest.raises(PlaceError, match=r"no room in .*/small: .* are free"),
        folder.publishing(small / "image") as partial,
    ):
        (partial / "file").write_bytes(bytes(1 << 20))
    assert names(small) == []
    folder.check_room(small, 1)
    with pytest.raises(PlaceError, match=r"no room in .*/small: 1.0 GiB are needed, 256.0 KiB are free"):
        folder.check_room(small, 1 << 30)


def test_a_read_only_directory_is_one_clear_line(small: Path) -> None:
    (small / ".image.partial-1-ab").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    with pytest.raises(PlaceError, match=r"image cannot be written: Read-only file system"):
        folder.publishing(small / "image").__enter__()
    with pytest.raises(PlaceError, match=r"cannot be written: left over from a killed build"):
        folder.sweep(small)


def test_errors_about_something_else_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), folder.publishing(tmp_path / "image"):
        os.stat("/nowhere")  # noqa: PTH116
