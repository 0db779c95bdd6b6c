"""The far end of a session on build hosts: a worker there tells how it goes, and sends artifacts and logs home."""

from __future__ import annotations

import contextlib
import inspect
import shutil
import sys
from collections.abc import Generator, Iterator
from dataclasses import asdict
from typing import Any

import pytest

from pipeline.errors import GoldspawnError, PlaceError
from pipeline.hosts import earlier, parcel
from pipeline.plugin.collect import image_name, is_stage
from pipeline.plugin.options import HOSTED, settings
from pipeline.progress import Progress, report, show_with
from pipeline.remains import beside

_ANSWER = 600.0
"""Seconds that the near end has to put an artifact in its place after it has all of it."""


def work(channel: Any) -> None:
    """Does what pytest-xdist's worker module does, with the command line and the paths of this host."""
    import xdist.remote  # type: ignore[import-untyped,unused-ignore]

    worker, args, options, path = channel.receive()
    if HOSTED in worker:
        args, options, path = worker[HOSTED]["args"], {}, sys.path
    source = compile(inspect.getsource(xdist.remote), xdist.remote.__file__, "exec")
    begun = _Begun(channel, (worker, args, options, path))
    exec(source, {"__name__": "__channelexec__", "channel": begun})


class _Begun:
    """A channel of execnet's of which the first message was read already, and is given again."""

    def __init__(self, channel: Any, first: object) -> None:
        self._channel = channel
        self._first = [first]

    def receive(self, timeout: float | None = None) -> object:
        return self._first.pop() if self._first else self._channel.receive(timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


class Hosted:
    """The plugin of a worker on a build host."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        told = config.workerinput[HOSTED]  # type: ignore[attr-defined]
        self._line = told["line"]
        self._home: str = told["home"]
        self._artifacts = settings(config).wishes.artifacts
        show_with(self._show)

    def _show(self, progress: Progress) -> None:
        with contextlib.suppress(OSError):  # nobody hears it any more: execnet is about to end this process
            self._line.send({"kind": "progress", "progress": asdict(progress)})

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """An export goes by what is at home: whether it is needed, and since what there are changes."""
        name = image_name(item)
        if name is not None and is_stage(item) and item.name == "snapshot":
            try:
                self._line.send(earlier.ask(name))
                earlier.put(self._line.receive(_ANSWER), self._artifacts / name)
            except (OSError, EOFError, self._line.TimeoutError) as error:
                raise PlaceError(f"what is known of {name} where the run was started did not come ({error})") from error

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """An artifact is there when it is where the run was started: until then `snapshot` has not passed."""
        result = yield
        name = image_name(item)
        if name is not None and is_stage(item) and item.name == "snapshot" and self._exported(name):
            self._send(name)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Reports name files where the user finds them."""
        made = yield
        name = image_name(item)
        if name is not None:
            if isinstance(made.longrepr, str):
                made.longrepr = self._at_home(made.longrepr)
            made.user_properties = [
                (key, self._at_home(value) if isinstance(value, str) else value) for key, value in made.user_properties
            ]
            if made.failed or (item.name == "snapshot" and made.when == "teardown"):
                self._send_log(name)
        return made

    @pytest.hookimpl(wrapper=True)
    def pytest_unconfigure(self) -> Iterator[None]:
        yield
        shutil.rmtree(self._artifacts, ignore_errors=True)

    def _at_home(self, text: str) -> str:
        return text.replace(str(self._artifacts), self._home)

    def _exported(self, name: str) -> bool:
        build = settings(self._config).builds.get(name)
        return build is not None and "exported" in build.notes

    def _send(self, name: str) -> None:
        keep = settings(self._config).builds[name].image.artifact.keep
        source = self._artifacts / name
        report(Progress(name, "snapshot", "begin"))
        total = sum(path.stat().st_size for path in source.iterdir()) / 1e6
        try:
            parcel.send(
                source, self._line.send, keep,
                lambda done: report(Progress(name, "snapshot", "line", f"sent {done / 1e6:.0f} of {total:.0f} MB")),
            )  # fmt: skip
            answer: dict[str, str] = self._line.receive(_ANSWER)
        except (OSError, EOFError, self._line.TimeoutError) as error:
            raise PlaceError(f"{source}: could not be sent to where the run was started ({error})") from error
        if "error" in answer:
            raise GoldspawnError(answer["error"], hint=answer.get("hint") or None)
        shutil.rmtree(source, ignore_errors=True)

    def _send_log(self, name: str) -> None:
        build = settings(self._config).builds.get(name)
        if build is not None and build.log.path is not None:
            for path in (build.log.path, beside(build.log.path)):
                with contextlib.suppress(OSError):
                    self._line.send({"kind": "log", "name": path.name, "data": path.read_bytes()})
