"""How emerge is called: what stands before it, its environment, its roots; to merge, and to be asked.

A wrapper (systemd-nspawn, chroot, ssh) may stand before it, so the roots have two names: as emerge sees them, and as
we do. Each command is logged as a line one could paste.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.command import SILENT, BuildLog, Result, output, run
from pipeline.errors import CommandFailed, GoldspawnError
from pipeline.portage.cycles import Root
from pipeline.portage.errors import LOG_IS, explain
from pipeline.portage.failure import failures

CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
"""The environment of emerge, but for what is added to it: a user's own USE or ROOT must not leak into an image."""

JSON_SINCE = (3, 0, 83)
"""The first Portage with `--circular-deps-report=json`; older ones end with status 2 for it."""

OBSERVABLE_SINCE = (3, 0, 82)
"""The first Portage with FEATURES="observability" (see `pipeline.portage.status`); older ones warn of it."""

_OURS = ("ROOT", "SYSROOT", "PORTAGE_CONFIGROOT", "EPREFIX")
"""What is said of the target in the environment must not be said of the builder. `EPREFIX=` is what the Portage of
PyPI needs for a target outside of its virtual environment: said for the builder, it would merge into this machine."""


class _Listening(BuildLog):
    """Passes all lines on to a log, and keeps the last of them."""

    def __init__(self, log: BuildLog, lines: int = 3000) -> None:
        super().__init__()
        self.path = log.path
        self._log = log
        self._kept: deque[str] = deque(maxlen=lines)

    def line(self, text: str) -> None:
        self._log.line(text)
        self._kept.append(text)

    def took(self, seconds: float) -> None:
        self._log.took(seconds)

    def idle(self) -> None:
        self._log.idle()

    @property
    def text(self) -> str:
        return "\n".join(self._kept)


@dataclass(frozen=True)
class Emerge:
    """Portage's commands for one target.

    `root` and `config_root` (default: the same) are paths as emerge sees them, `seen` is the root as we see it,
    `builder` the `/` of emerge as we see it (None: we do not). `wrapper` stands before each command, `programs` is the
    folder of emerge and its kin (default: found in PATH), `options` go to every call of emerge. `environment` is
    added to a clean one. `slowness` multiplies all limits of time; `limit` is that of one merge, in seconds.
    """

    root: str
    seen: Path
    config_root: str = ""
    builder: Path | None = None
    wrapper: tuple[str, ...] = ()
    programs: str = ""
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    log: BuildLog = SILENT
    slowness: float = 1.0
    limit: float = 24 * 3600.0
    _versions: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)
    """By folder of programs: asked once, for all that `dataclasses.replace` makes of this one."""

    @classmethod
    def of_command(cls, words: Sequence[str], root: str, seen: Path | None = None, **more: Any) -> Emerge:
        """From a command line whose last word is emerge, such as `/venv/bin/emerge` or `chroot /builder emerge`.

        Where emerge is that of PyPI, its virtual environment is its `/`; without a wrapper, this machine's is.
        """
        *wrapper, program = words
        folder = str(PurePosixPath(program).parent) if "/" in program else ""
        if not wrapper:
            prefix = Path(program).absolute().parent.parent
            wheel = (prefix / "pyvenv.cfg").is_file()
            more["builder"] = more.get("builder") or (prefix if wheel else Path("/"))
            if wheel:
                more["environment"] = {"EPREFIX": "", **more.get("environment", {})}
        return cls(root, seen or Path(root), wrapper=tuple(wrapper), programs=folder, **more)

    def argv(
        self, program: str, *arguments: str, at: Root = "target", env: Mapping[str, str] | None = None
    ) -> list[str]:
        """The command line of one of Portage's programs; `at` tells whose environment it gets."""
        found = {**CLEAN, **self.environment}
        if at == "builder" and not self.own:
            found = {name: value for name, value in found.items() if name not in _OURS}
        found.update(env or {})
        settings = [f"{name}={value}" for name, value in found.items()]
        path = f"{self.programs}/{program}" if self.programs else program
        return [*self.wrapper, "env", "-i", *settings, path, *arguments]

    def emerge(self, *arguments: str, at: Root = "target", env: Mapping[str, str] | None = None) -> list[str]:
        """The command line of an emerge for one of the roots."""
        roots: list[str] = []
        if at == "target" and not self.own:
            roots = [f"--root={self.root}", f"--sysroot={self.root}", f"--config-root={self.config_root or self.root}"]
        common = ["--color=n", "--ask=n", "--quiet", *roots, *self.options]
        return self.argv("emerge", *common, *arguments, at=at, env=env)

    @property
    def own(self) -> bool:
        """Whether the target is the `/` of the very system whose emerge runs."""
        return self.root == "/"

    def tree(self, root: Root) -> Path | None:
        """One of the roots as we see it."""
        return self.seen if root == "target" or self.own else self.builder

    @property
    def version(self) -> tuple[int, ...]:
        """Portage's version, (3, 0, 83) for example. Raises `GoldspawnError` where there is no emerge."""
        if self.programs not in self._versions:
            self._versions[self.programs] = self._ask_version()
        return self._versions[self.programs]

    def _ask_version(self) -> tuple[int, ...]:
        argv = self.argv("emerge", "--version")
        try:
            told = output(argv, log=self.log, timeout=60 * self.slowness, check=False)
        except CommandFailed as error:
            raise GoldspawnError(f"emerge cannot be run: {error.message.splitlines()[0]}") from error
        if (found := re.search(r"Portage (\d+(?:\.\d+)*)", told.stdout)) is None:
            lines = (told.stderr or told.stdout).strip().splitlines()
            raise explain(told.stdout + told.stderr) or GoldspawnError(
                f"this is no emerge: {' '.join(argv)}" + (f": {lines[-1]}" if lines else "")
            )
        return tuple(int(number) for number in found[1].split("."))

    def ask(self, *arguments: str, at: Root = "target", env: Mapping[str, str] | None = None) -> Result:
        """Runs emerge with `--pretend` and returns what it prints, whatever its status: nothing is merged."""
        argv = self.emerge("--pretend", *arguments, at=at, env=env)
        return output(argv, log=self.log, timeout=1800 * self.slowness, check=False)

    def merge(self, *arguments: str, at: Root = "target", env: Mapping[str, str] | None = None) -> None:
        """Runs emerge, its output into the log line by line. Raises `CommandFailed`, with what its text means.

        Where it can, emerge says in a file what it is at: `pipeline.portage.status` reads it.
        """
        listening = _Listening(self.log)
        env = dict(env or {})
        if self.version >= OBSERVABLE_SINCE:
            features = env.get("FEATURES", self.environment.get("FEATURES", ""))
            env["FEATURES"] = f"observability {features}".rstrip()
        argv = self.emerge(*arguments, at=at, env=env)
        try:
            run(argv, log=listening, timeout=self.limit * self.slowness)
        except CommandFailed as error:
            raise self._explained(error, listening.text) from None

    def _explained(self, error: CommandFailed, text: str) -> CommandFailed:
        """A failed merge with what it means, and with the end of the build.log of the package that failed.

        All of that build.log goes into the log, unless emerge has printed it.
        """
        failed = failures(text, self._place)
        for one in failed:
            if not one.is_in(text):
                self.log.line(f"build.log of {one.cpv}:")
                for line in one.lines:
                    self.log.line(line)
        told = explain("\n".join([*(one.text for one in failed[:1]), text]))
        if failed:
            error = CommandFailed(error.argv, error.status, failed[0].end, log=error.log)
            if told is not None and (told.hint or "").startswith(LOG_IS):
                told.hint = "its whole build.log stands in the log"
        error.hint = str(told) if told is not None else None
        return error

    def _place(self, path: str) -> Path:
        """A path of emerge's as we see it."""
        return self.builder / path.lstrip("/") if self.wrapper and self.builder is not None else Path(path)

    def portageq(self, *arguments: str, at: Root = "target") -> str:
        """What portageq answers, without its last line end. Raises `CommandFailed`."""
        argv = self.argv("portageq", *arguments, at=at)
        return output(argv, log=self.log, timeout=120 * self.slowness).stdout.rstrip("\n")

    def envvar(self, name: str) -> str:
        """A variable of the target's configuration, as portageq tells it."""
        found = {} if self.own else {"PORTAGE_CONFIGROOT": self.config_root or self.root}
        argv = self.argv("portageq", "envvar", name, env=found)
        return output(argv, log=self.log, timeout=120 * self.slowness).stdout.strip()

    def of_same_portage(self, other: Emerge) -> Emerge:
        """The same, with the Portage of another: that is not asked for its version again."""
        return replace(self, _versions=other._versions)

    def logging(self, log: BuildLog) -> Emerge:
        """The same with another log."""
        return replace(self, log=log)
