"""The guest: started (from its saved state, or by booting), made ready, spoken to, and gone with whoever started it.

`running` is the whole life of one. It may be called from the main thread only: the kernel ties the processes that it
starts to the life of the thread that started them (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from pipeline.appliance import copies, namespace, recipe
from pipeline.appliance.build import built, damaged
from pipeline.appliance.kvm import Accelerator, probe
from pipeline.appliance.link import Link, control_path
from pipeline.appliance.qemu import Machine, Qemu
from pipeline.appliance.share import Server, Share, daemon, plan
from pipeline.appliance.store import Store
from pipeline.appliance.tools import require_tools
from pipeline.command import TAIL_LINES, BuildLog
from pipeline.errors import GoldspawnError, PlaceError
from pipeline.user_cache import default_cache

_BOOT = 180.0
"""Seconds a cold boot may take (10 measured without KVM, on two cores)."""

_SETUP = 300.0
"""Seconds that mounting shares and importing the pool may take (1 measured); an import after a crash reads a log."""

_STATES = 4
"""How many saved states are kept."""

_READY = "goldspawn-appliance: ready"


class Guest:
    """A running appliance. `started` is "restored" or "booted", `seconds` how long it took until all was ready."""

    def __init__(self, qemu: Qemu, link: Link, accelerator: Accelerator, started: str) -> None:
        self._qemu = qemu
        self._link = link
        self.accelerator = accelerator.name
        self.environment = accelerator.environment
        self.why = accelerator.why
        self.started = started
        self.seconds = 0.0

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._qemu.process.pid

    def command(
        self, argv: Sequence[str], *, forward: Mapping[str, Path] | None = None, tty: bool = False
    ) -> list[str]:
        """The local command that runs `argv` in the guest, as root, with its exit status.

        `forward` maps the path of a Unix socket in the guest to that of one outside; `tty` gives a terminal.
        """
        return self._link.argv(argv, forward=forward, tty=tty)

    def alive(self) -> bool:
        """Whether QEMU still runs."""
        return self._qemu.process.poll() is None

    def kill(self) -> None:
        """Ends the guest at once; the pool survives that."""
        self._qemu.process.kill()
        self._qemu.process.wait()


@contextlib.contextmanager
def running(
    shares: Sequence[Share],
    *,
    log: BuildLog,
    cache: Path | None = None,
    memory_mib: int = 4096,
    cpus: int | None = None,
) -> Iterator[Guest]:
    """A guest in which every share is mounted at its own path and the pool `goldspawn` is imported.

    Builds the appliance when there is none yet, and waits while another process uses the same cache; each step of
    that is a line in `log`. Raises `PlaceError` for what is missing here or does not start, `CommandFailed` when the
    build fails, `InputError` for a share that cannot be.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("the appliance may be started from the main thread only: it dies with the thread")
    require_tools()
    wanted = plan(shares)
    store = Store(cache or default_cache())
    with store.held(log):
        folder = built(store, log)
        accelerator = probe(folder / "vmlinuz", store.root / "kvm.json")
        machine = Machine(folder, accelerator, memory_mib, cpus or len(os.sched_getaffinity(0)))
        begun = time.monotonic()
        with ExitStack() as stack:
            try:
                guest = _start(machine, store, wanted, log, stack)
            except PlaceError as error:
                if not damaged(folder):
                    raise
                log.line(f"the built appliance is damaged, and is built again ({_first_line(error)})")
                namespace.remove(folder)
                built(store, log)
                guest = _start(machine, store, wanted, log, stack)
            guest.seconds = time.monotonic() - begun
            log.line(f"appliance {guest.started} in {guest.seconds:.1f} s ({guest.accelerator}: {guest.why})")
            try:
                yield guest
            finally:
                if guest.alive():
                    _finish(guest, wanted, log)


def save_state(log: BuildLog, *, cache: Path | None = None) -> None:
    """Builds the appliance if need be, and starts it once without shares, so that its state is saved."""
    with running([], log=log, cache=cache):
        pass


def _start(machine: Machine, store: Store, shares: Sequence[Share], log: BuildLog, stack: ExitStack) -> Guest:
    """Tries in turn: the saved state, a boot, a boot with a new pool."""
    store.ensure_pool()
    if machine.state.is_dir():
        try:
            return _attempt(machine, store, shares, log, stack, restore=True)
        except (GoldspawnError, OSError, subprocess.TimeoutExpired) as error:
            log.line(f"the saved appliance does not start and is dropped ({_first_line(error)})")
            namespace.remove(machine.state)
    try:
        return _attempt(machine, store, shares, log, stack, restore=False)
    except _PoolFailed as error:
        aside = store.pool.with_suffix(".damaged")
        log.line(f"the pool kills the appliance: set aside as {aside}, a new one is made ({_first_line(error)})")
        store.pool.replace(aside)
        store.ensure_pool()
        return _attempt(machine, store, shares, log, stack, restore=False)


def _attempt(
    machine: Machine, store: Store, shares: Sequence[Share], log: BuildLog, outer: ExitStack, *, restore: bool
) -> Guest:
    with ExitStack() as stack:
        program = daemon() if shares else None
        server = Server(program, shares) if program else None
        if server:
            stack.callback(server.end)
        store.console.unlink(missing_ok=True)
        qemu = Qemu(machine, store.console, state=machine.state if restore else None)
        stack.callback(qemu.end)
        if not restore:
            _wait_for_boot(qemu, store.console)
            if not machine.state.exists():
                _save(qemu, machine, log)
        link = Link(qemu.port(), machine.folder / "keys", control_path(store.root))
        master = link.hold()
        if master is not None:
            stack.callback(_stop, master)
            _wait_for_socket(link, master)
        if server:
            qemu.plug_shares(server.connection)
        qemu.plug_pool(store.pool)
        _set_up(qemu, link, shares, log, virtiofs=server is not None, server=server)
        if shares and server is None:
            copies.bring(link, shares, log)
        outer.enter_context(stack.pop_all())
        return Guest(qemu, link, machine.accelerator, "restored" if restore else "booted")


def _save(qemu: Qemu, machine: Machine, log: BuildLog) -> None:
    # One state a size and accelerator; what an older QEMU saved looks the same, so the newest few stay.
    states = sorted(machine.folder.glob("state-*"), key=lambda path: path.stat().st_mtime)
    for old in states[: -(_STATES - 1)]:
        shutil.rmtree(old, ignore_errors=True)
    try:
        qemu.save(machine.state)
    except (GoldspawnError, OSError) as error:
        if qemu.process.poll() is not None:
            raise
        log.line(f"the appliance's state cannot be saved: it will boot each time ({_first_line(error)})")
        for path in machine.folder.glob("saving-*"):
            shutil.rmtree(path, ignore_errors=True)
        qemu.qmp.call("cont")


def _set_up(
    qemu: Qemu, link: Link, shares: Sequence[Share], log: BuildLog, *, virtiofs: bool, server: Server | None
) -> None:
    lines = "".join(f"{n} {'rw' if share.writable else 'ro'} {share.path}\n" for n, share in enumerate(shares))
    values = {
        "NOW": f"{time.time():.3f}", "SEED": secrets.token_hex(64), "SHARES": lines,
        "VIRTIOFS": str(int(virtiofs)), "POOL": "1",
    }  # fmt: skip
    head = "".join(f"{name}={_quoted(value)}\n" for name, value in values.items())
    try:
        done = link.script(head + (recipe.FILES / "setup.sh").read_text(), limit=_SETUP)
    except subprocess.TimeoutExpired as error:
        raise _PoolFailed(f"the appliance was not set up within {_SETUP:.0f} s") from error
    if done.returncode == 0:
        if "pool=recreated" in done.stdout or "pool=rewound" in done.stdout:
            how = "made anew: all caches are lost" if "recreated" in done.stdout else "rewound by some seconds"
            log.line(f"the appliance's pool could not be imported as it was, and is {how}")
        return
    said = (done.stderr or done.stdout).strip() or f"ssh ended with status {done.returncode}"
    if server is not None and server.process.poll() is not None:
        said += f"\nvirtiofsd: {server.end()}"
    if qemu.process.poll() is not None:
        raise _PoolFailed(f"the appliance died while it was set up: {said}")
    raise PlaceError(f"the appliance could not be set up: {said}")


class _PoolFailed(PlaceError):
    """The guest died, or hangs, with the pool plugged in."""


def _finish(guest: Guest, shares: Sequence[Share], log: BuildLog) -> None:
    """Brings copies home and exports the pool, so that the next import has nothing to replay."""
    if shares and daemon() is None:
        copies.take_home(guest._link, shares, log)
    with contextlib.suppress(subprocess.TimeoutExpired, OSError):
        guest._link.script("sync; timeout 20 zpool export -f goldspawn || timeout 20 zpool sync", limit=45.0)


def _wait_for_boot(qemu: Qemu, console: Path) -> None:
    deadline = time.monotonic() + _BOOT
    while _READY not in (said := console.read_text(errors="replace") if console.exists() else ""):
        if qemu.process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join((said + qemu.end()).splitlines()[-TAIL_LINES:])
            raise PlaceError(f"the appliance does not boot: the end of its console was\n{tail}", hint=f"see {console}")
        time.sleep(0.05)  # a file has nothing to wait on; the limit is _BOOT


def _wait_for_socket(link: Link, master: subprocess.Popen[bytes]) -> None:
    assert link.control is not None
    deadline = time.monotonic() + 60.0
    while not _answers(link.control):
        if master.poll() is not None or time.monotonic() > deadline:
            raise PlaceError("the appliance runs, but its ssh does not answer")
        time.sleep(0.02)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe_socket:
        return probe_socket.connect_ex(str(path)) == 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(2.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
