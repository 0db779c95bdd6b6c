"""The outer end of a session that needs the appliance: local tests run here, the others inside, as one session.

The terminal, its options (-x, -q, --junitxml, …), the cache and the exit status are pytest's own, out here; what
runs inside sends its reports, and they are handed to the same hooks as if it had run here. Ctrl-C goes inside first,
so that fixtures there clean up; the appliance goes in any case.
"""

from __future__ import annotations

import json
import os
import queue
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline import appliance, attend, channel, secrets
from pipeline.channel import AT_ONCE, INSIDE
from pipeline.command import BuildLog, stop
from pipeline.errors import GoldspawnError
from pipeline.image import load
from pipeline.plugin.collect import needs_place
from pipeline.plugin.inside import SELECTION
from pipeline.plugin.loss import report_lost
from pipeline.plugin.options import settings
from pipeline.progress import Progress, of_line, report
from pipeline.tarball import ERRAND, MERGED, run_errand
from pipeline.user_cache import default_cache, exchange

SOCKET = "/run/goldspawn-outside.sock"
"""The channel's socket in the guest."""

SILENCE = float(os.environ.get("GOLDSPAWN_SILENCE", "90"))
"""Seconds without a sign of life after which a guest counts as frozen (it gives one every five)."""

HOME = Path(__file__).parents[2]
"""Where goldspawn itself is: the session inside runs the same code."""

_ENTER = "-m pipeline.appliance enter --"
"""What one types to run a command in the appliance of a session that runs."""

_SSH_FAILED = 255
_TRIES = 2

_PARTING = 30.0
"""Seconds that a session inside has to clean up after Ctrl-C."""


class Outside:
    """Runs a session's items, those that need ZFS and systemd in the appliance."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        # -n is for the tests inside: out here pytest runs what is left in this one process.
        self._parallel = config.getoption("numprocesses", None)
        if self._parallel:
            config.option.numprocesses = None
            config.option.dist = "no"
            config.option.tx = []
            # The errands of those inside are done out here, as many at once as there are workers.
            os.environ[AT_ONCE] = str(self._parallel)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        moving = [item for item in session.items if needs_place(item)]
        # pytest's own loop ends at once when something could not be collected: then nothing is started either.
        stopped = session.testsfailed and not self._config.option.continue_on_collection_errors
        if not moving or stopped or self._config.option.collectonly:
            return (yield)
        if self._config.getoption("usepdb", False):
            raise pytest.UsageError(
                "--pdb cannot reach into the appliance (python -m pipeline.appliance shell opens a shell in it)"
            )
        everything = session.items
        session.items = [item for item in everything if not needs_place(item)]
        with _Move(session, moving).under_way() as follow:
            result = yield  # both at the same time; what happens inside is told when those of here are through
            session.items = everything
            follow()
        return result


class _Move:
    def __init__(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        self._session = session
        self._config = session.config
        self._items = {item.nodeid: item for item in items}
        self._open = dict.fromkeys(self._items)
        self._guest: appliance.Guest | None = None
        self._running = ""
        self._began = False
        self._events: queue.Queue[channel.Message] = queue.Queue()
        self._orders: queue.Queue[str] = queue.Queue()

    @contextmanager
    def under_way(self) -> Iterator[Callable[[], None]]:
        """The items at work inside while the block runs.

        What is yielded plays back what happens there, to its end, and raises what pytest's own loop would raise.
        """
        try:
            with ExitStack() as stack:
                follow = self._begun(stack)
                yield follow
        except GoldspawnError as error:
            self._lost(str(error))

    def _begun(self, stack: ExitStack) -> Callable[[], None]:
        report(Progress("appliance", "start", "begin"))
        try:
            log = stack.enter_context(BuildLog(default_cache() / "appliance.log", self._show))
            listener = channel.Listener(self._handle)
            stack.callback(listener.close)
            guest = self._guest = stack.enter_context(appliance.running(self._shares(), log=log))
            process = stack.enter_context(self._session_inside(guest, listener.path))
            return partial(self._follow, guest, listener.path, process)
        except GoldspawnError as error:
            return partial(self._lost, str(error))
        finally:
            report(Progress("appliance", "start", "end"))

    @staticmethod
    def _show(line: str) -> None:
        report(Progress("appliance", "start", "line", line))

    def _shares(self) -> list[appliance.Share]:
        chosen = settings(self._config)
        artifacts = chosen.wishes.artifacts
        for folder in (artifacts, exchange()):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise GoldspawnError(f"{folder}: cannot be made ({error.strerror})") from error
        reading = {HOME, self._config.rootpath, self._config.invocation_params.dir, *chosen.images}
        writing = {artifacts, exchange()}
        return [appliance.Share(path, False) for path in reading] + [appliance.Share(path, True) for path in writing]

    def _follow(self, guest: appliance.Guest, socket: Path, process: subprocess.Popen[bytes]) -> None:
        """Plays a session inside back; another one, where ssh itself failed (status 255, ssh(1)) before it began."""
        self._play(guest, process)
        for _ in range(_TRIES):
            if process.returncode != _SSH_FAILED or self._began or not self._open:
                break
            with self._session_inside(guest, socket) as process:
                self._play(guest, process)
                self._account_for(process)
        self._account_for(process)

    def _account_for(self, process: subprocess.Popen[bytes]) -> None:
        """Reports what a session that ended has left open."""
        if self._open and not self._session.shouldfail and not self._session.shouldstop:
            self._output.seek(0)
            said = self._output.read().decode(errors="replace").splitlines()[-20:]
            lines = "\n".join("  " + line for line in said)
            self._lost(f"the session in the appliance ended with status {process.returncode}:\n{lines}")

    @contextmanager
    def _session_inside(self, guest: appliance.Guest, socket: Path) -> Iterator[subprocess.Popen[bytes]]:
        for left in exchange().glob("selection-*.json"):
            if not Path(f"/proc/{left.stem.removeprefix('selection-')}").exists():  # its session was killed
                left.unlink(missing_ok=True)
        selection = exchange() / f"selection-{os.getpid()}.json"
        selection.write_text(json.dumps({nodeid: str(item.path) for nodeid, item in self._items.items()}))
        variables = {
            INSIDE: str(exchange()),
            SELECTION: str(selection),
            channel.ENVIRONMENT: SOCKET,
            "GOLDSPAWN_ACCELERATOR": guest.accelerator,
            **guest.environment,
            "GOLDSPAWN_DATASET": "",
            "PYTHONPATH": str(HOME),
            "PYTHONPYCACHEPREFIX": str(exchange() / "pycache"),
            "PYTHONDONTWRITEBYTECODE": "",
            **{key: value for key, value in os.environ.items() if key in ("PYTEST_ADDOPTS", "CI", "NO_COLOR")},
        }
        words = [f"{key}={value}" for key, value in variables.items()]
        args = [str(word) for word in self._config.invocation_params.args]
        plugins = ["-p", "pipeline.plugin", "-p", "stages", "-o", "cache_dir=/tmp/pytest-cache"]
        command = ["env", *words, "python3", "-m", "pytest", *plugins, *args]
        script = f"cd {shlex.quote(str(self._config.invocation_params.dir))} && exec {shlex.join(command)}"
        shown = self._config.getoption("capture", "fd") == "no"
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                guest.command(["/bin/sh", "-c", script], forward={SOCKET: socket}),
                stdin=subprocess.DEVNULL,
                stdout=None if shown else said,
                stderr=None if shown else said,
                start_new_session=True,
            )
            try:
                self._output = said
                yield process
            finally:
                stop(process, grace=2)
                selection.unlink(missing_ok=True)

    def _handle(self, message: channel.Message) -> channel.Message | None:
        """Answers from the channel's threads; whatever touches pytest waits for the main thread."""
        kind = message["kind"]
        if kind == "progress":
            message.pop("kind")
            report(Progress(**message))
            return None
        if kind == ERRAND:
            image, stage = Path(message["image"]).name, "bootstrap"
            if message["part"] == MERGED:
                from pipeline import gentoo  # it registers how that is done

                stage = "cycles"
                if not gentoo.possible(load(Path(message["image"]))):
                    return {}
            with BuildLog(Path(message["log"]), lambda line: report(of_line(image, stage, line))) as log:
                return run_errand(message, folder=exchange() / "tars", log=log)
        if kind == attend.KIND:
            guest = self._guest
            assert guest is not None, "what asks runs in it"
            return attend.serve(message, lambda argv: guest.command(argv, tty=True), f"{sys.executable} {_ENTER} ")
        if kind == secrets.ERRAND:
            return secrets.answer(message)
        if kind == "orders":
            return {"order": self._orders.get()}
        self._events.put(message)
        return None

    def _play(self, guest: appliance.Guest, process: subprocess.Popen[bytes]) -> None:
        interrupted = False
        heard = time.monotonic()
        parting = 0.0
        while True:
            try:
                try:
                    message = self._events.get(timeout=0.5)
                except queue.Empty:
                    message = None
                if message is not None:
                    heard = time.monotonic()
                    self._began = True
                    if message["kind"] == "done":
                        process.wait(10)
                        break
                    if not interrupted:
                        self._dispatch(message)
                    continue
                if not guest.alive():
                    self._lost("the appliance is gone: its virtual machine ended")
                    break
                if process.poll() is not None and self._events.empty():
                    break
                if time.monotonic() - heard > SILENCE:
                    guest.kill()
                    self._lost(f"the appliance is frozen: it has given no sign of life for {SILENCE:.0f} s")
                    break
                if interrupted and time.monotonic() > parting:
                    break
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                parting = time.monotonic() + _PARTING
                self._orders.put("interrupt")
            except subprocess.TimeoutExpired:
                break
        if interrupted:
            raise KeyboardInterrupt
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def _dispatch(self, message: channel.Message) -> None:
        hook = self._config.hook
        kind = message["kind"]
        if kind == "logstart":
            self._running = message["nodeid"]
            hook.pytest_runtest_logstart(nodeid=message["nodeid"], location=tuple(message["location"]))
        elif kind == "report":
            made: Any = hook.pytest_report_from_serializable(config=self._config, data=message["report"])
            if isinstance(made.longrepr, list):
                made.longrepr = tuple(made.longrepr)
            hook.pytest_runtest_logreport(report=made)
        elif kind == "logfinish":
            self._open.pop(message["nodeid"], None)
            self._running = ""
            hook.pytest_runtest_logfinish(nodeid=message["nodeid"], location=tuple(message["location"]))
        elif kind == "broken":
            self._lost(message["text"])

    def _lost(self, why: str) -> None:
        """Reports what ran when the appliance was lost as failed, and what had not run yet as blocked by that."""
        ordered = sorted(self._open, key=lambda nodeid: nodeid != self._running)
        report_lost(self._config, [self._items[nodeid] for nodeid in ordered], why, "the appliance is lost")
        self._open.clear()
