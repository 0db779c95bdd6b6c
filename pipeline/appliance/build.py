"""Building the appliance: kernel modules and root file system side by side, then put together, then renamed whole.

Mounts, chroots and owners of files need root; a plain user is root of a namespace (`namespace`). Two mmdebstrap runs
do the work in their hooks, where /proc, /dev and the package lists are at hand; the steps themselves are in files/.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from pathlib import Path

from pipeline.appliance import namespace, recipe
from pipeline.appliance.store import Store
from pipeline.command import BuildLog, output, run

_LIMIT = 1800.0
"""Seconds a step of the build may take."""


def built(store: Store, log: BuildLog) -> Path:
    """The directory of the appliance that the recipe asks for, built first if need be. The caller holds the store.

    Older appliances are removed once the new one is whole. Raises `CommandFailed` or `PlaceError`.
    """
    target = store.appliance(recipe.key())
    if target.is_dir():
        return target
    namespace.check()
    work = store.root / f"building-{os.getpid()}"
    started = time.monotonic()
    log.line("building the appliance (once, some minutes)")
    try:
        _build(work, log)
        old = store.appliances()
        (work / "whole").rename(target)
        for path in old:
            namespace.remove(path)
    finally:
        namespace.remove(work)
    log.line(f"appliance built in {time.monotonic() - started:.0f} s")
    return target


def damaged(folder: Path) -> bool:
    """Whether a built appliance is no longer what was built: asked when it does not boot."""
    try:
        return (folder / "digests").read_text() != _digests(folder)
    except FileNotFoundError:
        return True


def _digests(folder: Path) -> str:
    lines = []
    for name in ("vmlinuz", "initrd", "root.erofs"):
        with (folder / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines)


def _build(work: Path, log: BuildLog) -> None:
    whole = work / "whole"
    given = work / "given"
    for path in (whole, given / "keys", given / "python"):
        path.mkdir(parents=True)
    work.chmod(0o755)
    for name in ("host", "user"):
        output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "goldspawn", "-f", str(given / "keys" / name)])
    if recipe.TRUST.is_file():
        shutil.copy(recipe.TRUST, given / "ca.crt")
    threads: list[int] = []
    with ThreadPoolExecutor(2, initializer=lambda: threads.append(threading.get_native_id())) as pool:
        steps = [pool.submit(_modules, work, log), pool.submit(_root, work, given, log)]
        try:
            for step in as_completed(steps):
                step.result()
        except BaseException:
            # One step failed, or the user interrupts: the other must not go on for minutes.
            while wait(steps, timeout=0.2).not_done:
                for thread in threads:
                    _kill_children(thread)
            raise
    with _timed("file system and initrd", log):
        script = ["sh", str(recipe.FILES / "assemble.sh")]
        folders = [str(path) for path in (work / "tools", work / "root", recipe.FILES, whole)]
        run(namespace.inside([*script, *folders], processes=True), log=log, timeout=_LIMIT)
    shutil.move(given / "keys", whole / "keys")
    host = (whole / "keys" / "host.pub").read_text().split()[:2]
    (whole / "digests").write_text(_digests(whole))
    (whole / "keys" / "known_hosts").write_text(f"goldspawn-appliance {' '.join(host)}\n")


def _kill_children(thread: int) -> None:
    """Kills what a thread of this process has started; each child of `run` leads a process group."""
    with contextlib.suppress(OSError):
        for pid in Path(f"/proc/self/task/{thread}/children").read_text().split():
            os.killpg(int(pid), signal.SIGKILL)


def _modules(work: Path, log: BuildLog) -> None:
    with _timed("kernel modules", log):
        hook = f'sh {shlex.quote(str(recipe.FILES / "modules.sh"))} "$1"'
        _mmdebstrap(work / "tools", recipe.TOOLS, hook, log)


def _root(work: Path, given: Path, log: BuildLog) -> None:
    with _timed("Python libraries", log):
        platforms = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
        argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--no-compile"]
        argv += ["--disable-pip-version-check", "--python-version", recipe.PYTHON, "--implementation", "cp"]
        argv += [f"--platform={name}" for name in platforms]
        argv += ["--target", str(given / "python"), *recipe.requirements()]
        run(namespace.leashed(argv), log=log, timeout=_LIMIT, hint="the venv needs pip: python -m ensurepip")
    with _timed("root file system", log):
        script, folder = shlex.quote(str(recipe.FILES / "root.sh")), shlex.quote(str(given))
        _mmdebstrap(work / "root", recipe.PACKAGES, f'sh {script} "$1" {folder}', log)


def _mmdebstrap(target: Path, packages: tuple[str, ...], hook: str, log: BuildLog) -> None:
    argv = ["mmdebstrap", "--mode=root", "--variant=apt", "--components=main,contrib", "--format=directory"]
    argv += [f"--include={','.join(packages)}", '--aptopt=APT::Install-Recommends "false"']
    argv += ["--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/doc/*"]
    argv += ["--dpkgopt=path-exclude=/usr/share/man/*", f"--customize-hook={hook}", recipe.SUITE, str(target)]
    run(namespace.inside(argv, processes=True), log=log, timeout=_LIMIT)


class _timed:
    """Says in the log that a step begins, and how long it took."""

    def __init__(self, name: str, log: BuildLog) -> None:
        self.name = name
        self.log = log

    def __enter__(self) -> None:
        self.log.line(f"appliance: {self.name}")
        self.started = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.log.line(f"appliance: {self.name} done in {time.monotonic() - self.started:.0f} s")
