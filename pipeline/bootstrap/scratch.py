"""Folders for work in progress: locked while their process lives, so that the next run knows what is left over.

A process that was killed cannot clean up. The lock on its folder went with it, and whoever works there next finds
the folder unlocked and removes it. Nothing is mounted in it by then: what we run has mounts of its own, which end
with the process (see `apart`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.command import BuildLog, output, run

_YOUNG = 60.0
"""Seconds for which a folder without a lock is taken for one that is just being made."""
_PREFIX = ".goldspawn-"
_SUFFIX = ".tmp"


@contextlib.contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """A new folder in that of `beside` (made where missing), gone after the block.

    Clears what killed runs left there.
    """
    folder = beside.absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    with _locked_folder(folder) as made:
        yield made


@contextlib.contextmanager
def scratch_for_all() -> Iterator[Path]:
    """A new folder among the temporary files, for what runs under ids of a range from /etc/subuid.

    A plain user's own folders are often closed to those ids.
    """
    with _locked_folder(Path(tempfile.gettempdir())) as made:
        yield made


@contextlib.contextmanager
def _locked_folder(parent: Path) -> Iterator[Path]:
    _clear(parent)
    made = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=_SUFFIX, dir=parent))
    try:
        made.chmod(0o711)  # apt's user _apt goes through it
        with (made / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield made
    finally:
        _remove(made)


def _clear(parent: Path) -> None:
    for left in parent.glob(f"{_PREFIX}*{_SUFFIX}"):
        try:
            if left.lstat().st_uid != os.geteuid():
                continue
            with (left / "lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _YOUNG:
                    _remove(left)
        except BlockingIOError:
            continue


def _remove(folder: Path) -> None:
    """Removes a folder of ours, files of other users in it included (those of our range in /etc/subuid)."""
    if os.path.ismount(folder) or _has_mounts(folder):
        return
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except PermissionError:
        output(["unshare", "--map-root-user", "--map-auto", "rm", "-rf", str(folder)], check=False)


def _has_mounts(folder: Path) -> bool:
    below = f"{folder}/"
    return any(line.split()[4].startswith(below) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def apart(argv: Sequence[str]) -> list[str]:
    """A command that is killed with all its children when we are, and whose mounts are its own.

    As root it gets namespaces for mounts and processes. A plain user's tool makes its own.
    """
    killed = ["setpriv", "--pdeathsig=KILL"]
    if os.geteuid() == 0:
        killed += ["unshare", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*killed, *argv]


def pack(tree: Path, tar: Path, *, log: BuildLog, timeout: float) -> None:
    """Writes a tree as a tar with everything that a file has: owners as numbers, attributes, ACLs, capabilities."""
    argv = ["tar", "--create", f"--file={tar}", f"--directory={tree}", "--sort=name", "--numeric-owner",
            "--format=posix", "--pax-option=delete=atime,delete=ctime",
            "--xattrs", "--xattrs-include=*", "--xattrs-exclude=system.*", "--acls",
            "--one-file-system", "."]  # fmt: skip
    run(argv, log=log, timeout=timeout)
