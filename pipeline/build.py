"""One build: an image on its way through the stages in one place, with its log and its progress."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.command import BuildLog
from pipeline.errors import GoldspawnError, PlaceError
from pipeline.image import Image
from pipeline.lineage.listings import Listings
from pipeline.machine.timing import BootTimes
from pipeline.place import Place
from pipeline.progress import Progress, of_line, report
from pipeline.remains import beside
from pipeline.reuse.inputs import Keys, keys
from pipeline.reuse.plan import Policy
from pipeline.reuse.prune import Limits
from pipeline.reuse.verified import Verdict
from pipeline.secrets import Secrets, opened
from pipeline.zfs import Zfs

STAGES = ("dataset", "bootstrap", "cycles", "profile", "boot", "machinectl", "acceptance", "snapshot")
"""The stages in their order."""

FOUNDATIONS = STAGES[:5]
"""The stages on which all later checks of an image stand: when one fails, those are blocked."""

LAST_CHECKS = ("machinectl_poweroff", "snapshot")
"""The checks that come after the image's own tests."""


@dataclass(frozen=True)
class Wishes:
    """What the user asked of a run: `artifacts` (folder), whether to `export`, what may be reused, whether to `plan`
    only (how build cycles would be opened), to `reverify` what passed before, to `bisect` what does not boot, to have a
    `shell` in each machine or to `keep` one of which a check failed, and within which `limits` the cache is kept.

    `shared` is the folder for what all images of a place share. `taken` is why the world was not looked at, if that was
    the wish: "frozen" or "offline". `deltas` are exported beside those that image.toml asks for.
    """

    artifacts: Path
    shared: Path
    export: bool = True
    policy: Policy = field(default_factory=Policy)
    plan: bool = False
    deltas: tuple[str, ...] = ()
    reverify: bool = False
    bisect: bool = False
    shell: bool = False
    keep: bool = False
    limits: Limits = field(default_factory=Limits)
    taken: str = ""

    @property
    def tars(self) -> Path:
        """The folder that keeps root file systems as tars."""
        return self.shared / "tars"

    @property
    def listings(self) -> Listings:
        """The listings of snapshots' trees that are known."""
        return Listings(self.shared / "listings")

    @property
    def packages(self) -> Path:
        """The folder that keeps fetched packages."""
        return self.shared / "packages"


@dataclass
class Build:
    """One image in one place.

    `notes` has a line for each stage that has something to say (for the summary), `facts` what CI is told of the
    version (JUnit XML), `journal` and `boot` are the verified machine's, `verdict` is that of an earlier run which
    still holds.
    """

    image: Image
    place: Place
    wishes: Wishes
    log: BuildLog
    zfs: Zfs
    keys: Keys
    secrets: Secrets
    started: float = field(default_factory=time.time)
    notes: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    journal: str = ""
    boot: BootTimes | None = None
    verdict: Verdict | None = None
    _stage: str = ""

    @property
    def deltas(self) -> frozenset[str]:
        """Since what changes are to be exported: what image.toml asks for, and the user."""
        return frozenset((*self.image.artifact.deltas, *self.wishes.deltas))

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Marks in log and progress that a stage works; the errors of commands in it name the log."""
        self._stage = name
        self.log.heading(f"{self.image.name}: {name}")
        report(Progress(self.image.name, name, "begin"))
        try:
            yield
        except GoldspawnError as error:
            error.stage = name
            self.log.line(f"{name} failed: {error}")
            raise

    def show(self, line: str) -> None:
        """Shows a line as what is being done right now."""
        report(of_line(self.image.name, self._stage, line))


@contextlib.contextmanager
def open_build(image: Image, place: Place, wishes: Wishes, *, log: BuildLog | None = None) -> Iterator[Build]:
    """A build with a fresh log in `artifacts/logs/NAME.log`, or in the `log` of the build of which it is a part.

    Raises `PlaceError` if the log cannot be written, and `InputError` for secrets that cannot be had.
    """
    with contextlib.ExitStack() as stack:
        if log is not None:
            yield Build(image, place, wishes, log, Zfs(log), keys(image), stack.enter_context(opened(image)))
            return
        try:
            path = stack.enter_context(_own_log(wishes.artifacts / "logs", image.name))
            log = stack.enter_context(BuildLog(path))
        except OSError as error:
            raise PlaceError(
                f"artifacts = {wishes.artifacts}: cannot be written ({error.strerror})",
                hint="name another with --artifacts",
            ) from error
        build = Build(image, place, wishes, log, Zfs(log), keys(image), stack.enter_context(opened(image)))
        log.on_line = build.show
        yield build


@contextlib.contextmanager
def _own_log(folder: Path, name: str) -> Iterator[Path]:
    """An empty log that is ours while the block runs: NAME.log, or NAME-PID.log while another run of it writes that."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.log"
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            path = folder / f"{name}-{os.getpid()}.log"
        except OSError:  # a file system without locks
            pass
        path.write_bytes(b"")
        beside(path).unlink(missing_ok=True)
        yield path
