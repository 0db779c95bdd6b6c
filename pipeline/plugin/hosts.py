"""The near end of a session on build hosts: gets them ready, hands workers to pytest-xdist, and takes what comes back.

Which image goes where, and what a lost worker costs, is `ImageScheduling`'s affair, as with workers on this machine.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import GoldspawnError, InputError, PlaceError
from pipeline.hosts import Freight, Host, Ready, earlier, parcel
from pipeline.hosts.host import make_ready
from pipeline.image import FILE, load
from pipeline.plugin.collect import absolute, image_folder
from pipeline.plugin.loss import NAMES
from pipeline.plugin.options import HOSTED, settings
from pipeline.progress import Progress, report

HOME = Path(__file__).parents[2]
"""Where goldspawn itself is: hosts run the same code."""

_AHEAD = 16
"""Messages of a worker that may wait for the disk here, before the worker itself has to wait."""


def wanted(config: pytest.Config) -> list[Host]:
    """The build hosts of this session: of `--build-host`, and of `--tx ssh=…`. Raises `InputError`."""
    if hasattr(config, "workerinput"):
        return []
    specs = [str(spec) for spec in config.getoption("tx", None) or () if str(spec).startswith("ssh=")]
    return [Host.parse(text) for text in (*settings(config).build_hosts, *specs)]


class Hosts:
    """The plugin of a session that builds on hosts; made before pytest-xdist looks at its options."""

    def __init__(self, config: pytest.Config, hosts: Sequence[Host]) -> None:
        if settings(config).where == "appliance":
            raise PlaceError("build hosts build in place: leave out --where=appliance")
        self._config = config
        self._folder = tempfile.TemporaryDirectory(prefix="goldspawn-hosts-")
        self._freight = _freight(config)
        self._left_out: list[str] = []
        self._workers: dict[str, Ready] = {}
        self._threads: list[threading.Thread] = []
        self._begin(self._make_ready(hosts))

    def _make_ready(self, hosts: Sequence[Host]) -> list[Ready]:
        ready: list[Ready] = []
        with ThreadPoolExecutor() as pool:
            for begun in [pool.submit(make_ready, host, self._freight) for host in hosts]:
                try:
                    ready.append(begun.result())
                except PlaceError as error:
                    self._left_out.append(str(error))
        if not ready:
            raise PlaceError("\n".join(self._left_out))
        return ready

    def _begin(self, ready: Sequence[Ready]) -> None:
        """Tells pytest-xdist which workers to start: one a host, or as many as -n says."""
        option = self._config.option
        many = option.numprocesses or 1
        option.numprocesses, option.dist = None, "load"
        names = self._config.stash.setdefault(NAMES, {})
        for host in ready:
            for number in range(host.cpus if many in ("auto", "logical") else int(many)):
                worker = host.host.name if number == 0 else f"{host.host.name}-{number + 1}"
                while worker in self._workers:
                    worker += "+"
                self._workers[worker] = host
                names[worker] = f"build host {host.host.address}"
        base = self._config.invocation_params.dir
        self._specs = {
            worker: host.spec(worker, HOME, base, Path(self._folder.name, worker))
            for worker, host in self._workers.items()
        }
        option.tx = [*self._specs.values()]

    def pytest_report_header(self) -> list[str]:
        lines = [f"goldspawn: build host {one.host.address}" for one in dict.fromkeys(self._workers.values())]
        return [*lines, *(f"goldspawn: left out: {why}" for why in self._left_out)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        session: Any = self._config.pluginmanager.get_plugin("dsession")
        if session is not None:  # pytest-xdist has no hook for this
            session.worker_errordown = self._lost

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[Any]) -> None:
        """Opens the lines to all workers, and goes on without those that do not answer.

        pytest-xdist opens one after the other and gives up at the first that it cannot have, by a traceback.
        """
        session: Any = config.pluginmanager.get_plugin("dsession")
        group = session.nodemanager.group
        opened: dict[str, Any] = {}
        why: list[str] = []
        for spec in list(specs):
            try:
                opened[spec.id] = group.makegateway(spec)
                opened[spec.id].remote_status()
            except (EOFError, OSError, AssertionError):
                opened.pop(spec.id, None)
                specs.remove(spec)
                del self._specs[spec.id]
                why.append(f"{config.stash[NAMES][spec.id]} is lost: it died before anything began there")
                session.report_line(f"\ngoldspawn: left out: {why[-1]}")
        config.option.tx = [*self._specs.values()]  # pytest-xdist counts its workers by it
        if not opened:
            raise pytest.UsageError("\n".join(why))
        group.makegateway = lambda spec: opened[spec.id]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_getremotemodule(self) -> Any:
        import pipeline.plugin.remote

        return pipeline.plugin.remote

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Gives a worker its command line and paths, and a line to us beside pytest-xdist's own."""
        host = self._workers[node.gateway.id]
        line = node.gateway.newchannel()
        messages: queue.Queue[parcel.Message | None] = queue.Queue(_AHEAD)
        line.setcallback(messages.put, endmarker=None)
        thread = threading.Thread(target=self._take, args=(line, messages), daemon=True)
        thread.start()
        self._threads.append(thread)
        chosen = settings(self._config)
        node.workerinput[HOSTED] = {
            "line": line,
            "args": self._arguments(host),
            "images": [host.there(folder) for folder in chosen.images],
            "artifacts": f"{host.root}.run-{node.workerinput['testrunuid']}-{node.gateway.id}",
            "home": str(chosen.wishes.artifacts),
        }

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        for thread in self._threads:
            thread.join(10)
        self._folder.cleanup()

    def _arguments(self, host: Ready) -> list[str]:
        """The command line, with the paths of this machine that the host has at another place."""
        config = self._config
        words = [self._word(str(word), host) for word in config.invocation_params.args]
        found = ["-c", host.there(config.inipath)] if config.inipath is not None else []
        # The plugins by name: the host's Python need not have goldspawn itself.
        return ["-p", "pipeline.plugin", "-p", "stages", *words, f"--rootdir={host.there(config.rootpath)}", *found,
                "-o", "cache_dir=/tmp/pytest-cache"]  # fmt: skip

    def _word(self, word: str, host: Ready) -> str:
        option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        path = Path(value.split("::")[0])
        return f"{option}{equals}{host.root}{value}" if path.is_absolute() and self._freight.holds(path) else word

    def _take(self, line: Any, messages: queue.Queue[parcel.Message | None]) -> None:
        """Takes what a worker says until its line ends; artifacts and logs land here."""
        artifacts = settings(self._config).wishes.artifacts
        said = iter(messages.get, None)
        for message in said:
            if message["kind"] == "progress":
                report(Progress(**message["progress"]))
            elif message["kind"] == "log":
                with suppress(OSError):
                    (artifacts / "logs").mkdir(parents=True, exist_ok=True)
                    (artifacts / "logs" / Path(message["name"]).name).write_bytes(message["data"])
            elif message["kind"] == earlier.SHELF:
                with suppress(OSError):
                    line.send(earlier.tell(artifacts / Path(message["image"]).name))
            elif message["kind"] == parcel.PARCEL:
                answer = self._parcel(message, said, artifacts)
                with suppress(OSError):
                    line.send(answer)

    @staticmethod
    def _parcel(message: parcel.Message, said: Iterator[parcel.Message], artifacts: Path) -> dict[str, str]:
        last: list[parcel.Message] = [message]

        def parts() -> Iterator[parcel.Message]:
            for part in said:
                if part["kind"] == "progress":
                    report(Progress(**part["progress"]))
                    continue
                last[0] = part
                yield part
                if part["kind"] == parcel.SEALED:
                    return

        coming = parts()
        try:
            parcel.receive(message, coming, artifacts)
        except GoldspawnError as error:
            for _ in coming:  # the worker sends to the end before it listens
                pass
            return {"error": error.message, "hint": error.hint or ""}
        return {}

    def _lost(self, node: Any, error: object) -> None:
        """In place of pytest-xdist's own way, which starts a worker again where one was lost: the host is gone."""
        session: Any = self._config.pluginmanager.get_plugin("dsession")
        self._config.hook.pytest_testnodedown(node=node, error=error)
        who = self._config.stash[NAMES][node.gateway.id]
        session.report_line(f"\n{who} is lost")
        with suppress(KeyError):
            if crashed := session.sched.remove_node(node):
                session.handle_crashitem(crashed, node)
        session._active_nodes.remove(node)
        session.sched.forget(node)
        if session._active_nodes:
            return
        if session.sched.collection is None:
            session.shouldstop = "all build hosts are lost"
        session.sched.give_up(node)
        session.triggershutdown()


def needed(path: Path, elsewhere: Sequence[Path]) -> set[Path]:
    """What is needed to run the tests at a path: of an image's the whole image, those that it stands on (beside it, or
    below the folders `elsewhere`) and the files that their image.toml names.
    """
    folder = image_folder(path / FILE)
    if folder is None:
        return {path}
    try:
        image = load(folder, elsewhere)
    except InputError:  # which is told when it is collected
        return {folder}
    lowest, made = image.foundation.folder, image.bootstrap
    named = (lowest / name for name in (*made.files, *made.builder_files, *made.copied, *made.folders(lowest)))
    # Not resolve(): what is named through a link is looked for there through that link.
    return {*(one.folder for one in image.chain), *(Path(os.path.abspath(path)) for path in named)}  # noqa: PTH100


def _freight(config: pytest.Config) -> Freight:
    chosen = settings(config)
    roots = {HOME / "pyproject.toml", *chosen.images}
    if not chosen.images or config.args_source is config.ArgsSource.ARGS:
        for argument in config.args:
            roots |= needed(absolute(config, argument), chosen.images)
    around = {folder for root in roots for folder in root.parents if folder.is_relative_to(config.rootpath)}
    files = {folder / name for folder in {*around, config.rootpath} for name in ("conftest.py", "__init__.py", FILE)}
    if config.inipath is not None:
        files.add(config.inipath)
    files.add(config.rootpath / "pyproject.toml")
    return Freight(HOME, roots | files, without=[chosen.wishes.artifacts])
