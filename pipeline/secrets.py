"""Secrets of an image at run time: read from where image.toml says, kept as files in memory, known to no log.

A session in the appliance asks the process that started it, whose files and environment are the user's. Who is given
a secret gets the path of its file, so that no command line holds it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import channel, netrc
from pipeline.channel import INSIDE
from pipeline.command import BuildLog, output
from pipeline.errors import CheckFailed, CommandFailed, InputError
from pipeline.image import FILE, Image, load
from pipeline.image.reading import shown
from pipeline.image.secrets import Use
from pipeline.masking import SHORTEST, hide, telling, too_short
from pipeline.place import RUN

ERRAND = "secret"
"""The kind of the message with which a session in the appliance asks for one."""

INSIDE_AT = "/run/secrets"
"""Where commands that run in a tree find them."""

SHOWN_LOGINS = "/run/secrets.apt"
"""Where apt finds logins in a tree in which it runs."""

SHOWN_GIT = "/run/secrets.git"
"""Where git finds its logins in a builder root."""

_FOLDER = RUN / "secrets" if os.geteuid() == 0 else Path("/dev/shm", f"goldspawn-secrets-{os.geteuid()}")
"""Where they lie: in memory."""


@dataclass(frozen=True)
class Secrets:
    """The secrets of an image, by name: `values`, and for each a file that root alone can read."""

    image: Image
    values: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    folder: Path = _FOLDER

    @property
    def logins(self) -> Path | None:
        """The folder with files of apt_auth.conf(5), None where there are none."""
        return self.folder / "apt" if self._has("apt") else None

    @property
    def git(self) -> Path | None:
        """The file with git's logins, alone in its folder (see `netrc.for_git`), None where there are none."""
        return self.folder / "git/logins" if self._has("git") else None

    def _has(self, use: Use) -> bool:
        return any(name in self.values for name in self.image.secrets_for(use))

    def files(self, use: Use) -> dict[str, Path]:
        """The files of the secrets that somebody is given, by name."""
        return {name: self.folder / name for name in self.image.secrets_for(use)}


def read(image: Image, name: str) -> bytes:
    """A secret, from this process's environment or its user's files. Raises `InputError`."""
    secret = image.secrets[name]
    where = f"{shown(image.folder / FILE)}: secrets.{name}"
    if secret.env is not None:
        source, content = secret.env, os.fsencode(os.environ.get(secret.env, ""))
        if not content:
            raise InputError(f"{where}: the environment has no {secret.env}", hint=f"export {secret.env}=…")
    else:
        path = image.folder / Path(str(secret.file)).expanduser()
        source = shown(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{where}: {source} cannot be read ({error.strerror})") from error
    if not content.strip():
        raise InputError(f"{where}: {source} is empty")
    if "git" in secret.use and not netrc.parse(content.decode(errors="replace")):
        raise InputError(
            f"{where}: what {source} holds is no login",
            hint="machine git.example.org login NAME password PASSWORD, in one line or several (apt_auth.conf(5))",
        )
    if too_short(content, logins=secret.logs_in):
        raise InputError(
            f"{where}: what {source} holds is shorter than {SHORTEST} characters",
            hint="take a longer one: that could not be told from other text, to be masked or looked for",
        )
    return content


def answer(message: channel.Message) -> channel.Message:
    """The outer process's side: the secret that a session in the appliance asks for, by image.toml as it is here."""
    image, name = load(Path(message["image"])), str(message["name"])
    value = read(image, name)
    _hide(image, name, value)
    return {"data": base64.b64encode(value).decode()}


@contextlib.contextmanager
def opened(image: Image, *uses: Use) -> Iterator[Secrets]:
    """The secrets of an image, or those for some uses, while the block runs.

    Raises `InputError` for those that cannot be had, all at once.
    """
    names = {name for use in uses for name in image.secrets_for(use)} if uses else image.secrets.keys()
    if not names:
        yield Secrets(image)
        return
    values, problems = {}, []
    for name in sorted(names):
        try:
            values[name] = _fetch(image, name)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    for name, value in values.items():
        _hide(image, name, value)
    _sweep()
    (_FOLDER / str(os.getpid())).mkdir(parents=True, mode=0o700, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{image.name}-", dir=_FOLDER / str(os.getpid())))
    try:
        for use in ("apt", "git"):
            (folder / use).mkdir()
        for name, value in values.items():
            _write(folder / name, value)
            if image.secrets[name].logs_in:
                netrc.know(value.decode(errors="replace"))
            if "apt" in image.secrets[name].use:
                _write(folder / "apt" / f"{name}.conf", value)
        for_git = [values[name].decode(errors="replace") for name in image.secrets_for("git") if name in values]
        _write(folder / "git/logins", netrc.for_git("\n".join(for_git)).encode())
        yield Secrets(image, values, folder)
    finally:
        shutil.rmtree(folder)


def _write(file: Path, value: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(value)


def _fetch(image: Image, name: str) -> bytes:
    if INSIDE not in os.environ or not channel.available():
        return read(image, name)
    return base64.b64decode(channel.ask({"kind": ERRAND, "image": str(image.folder), "name": name})["data"])


def _sweep() -> None:
    """Removes what processes left that were killed."""
    _FOLDER.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in _FOLDER.iterdir():
        if not Path("/proc", left.name).exists():
            shutil.rmtree(left, ignore_errors=True)


def _hide(image: Image, name: str, value: bytes) -> None:
    hide(value, logins=image.secrets[name].logs_in)


def nowhere_in(tree: Path, secrets: Secrets, log: BuildLog) -> None:
    """Asserts that no file of a tree holds what a secret is known by (`pipeline.masking.telling`).

    Raises `CheckFailed` that names the secret and the files.
    """
    for name, value in sorted(secrets.values.items()):
        log.line(f"secrets: looks for {name} in the tree")
        patterns = secrets.folder / ".looked-for"
        _write(patterns, b"\n".join(telling(value, logins=secrets.image.secrets[name].logs_in)))
        argv = ["env", "LC_ALL=C", "grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings"]
        argv += ["--devices=skip", f"--file={patterns}", str(tree)]
        told = output(argv, check=False, timeout=1800)
        if told.status > 1:
            raise CommandFailed(argv, told.status, told.stderr)
        if found := told.stdout.splitlines():
            files = ", ".join(str(Path("/") / Path(one).relative_to(tree)) for one in found[:5])
            raise CheckFailed(
                f"secrets.{name} of image.toml stands in the tree: {files}",
                hint=f"commands of profile.run find it in {INSIDE_AT}, and must not write it down; files of root/ must "
                "not hold it; and each line of it counts: one that is no secret belongs elsewhere",
            )
