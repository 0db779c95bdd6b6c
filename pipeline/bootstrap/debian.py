"""What the methods for Debian and its kin share: settings, repositories, and what apt's errors mean.

Debian's own mirror is the default of the tools; no address stands here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bootstrap.indices import indices
from pipeline.bootstrap.method import STRICT, Settings
from pipeline.bootstrap.values import File, Packages, Text, Uri, matching
from pipeline.command import BuildLog
from pipeline.errors import CommandFailed, InputError
from pipeline.reuse.world import Source

MACHINE = ("systemd-sysv", "dbus", "libpam-systemd", "login", "util-linux", "apt", "debian-archive-keyring")
"""What makes a tree a machine: an init, the bus, and sessions for machinectl shell and login (agetty and login are
in util-linux and login, which minbase need not hold), and what apt needs to go on inside."""

BOUNDED = {"Acquire::http::Timeout": "20", "Acquire::https::Timeout": "20", "Acquire::Retries": "1"}
"""apt's options for a mirror that does not answer (apt.conf(5)); seconds."""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
"""The archive's keys, of the package debian-archive-keyring: on the host that builds, and in the tree."""

Suite = Annotated[Text, matching(r"[A-Za-z0-9][A-Za-z0-9.+/_-]*", 'a suite such as "stable"')]
FlatSuite = Annotated[Text, matching(r"\./|[A-Za-z0-9][A-Za-z0-9.+/_-]*", 'a suite such as "stable", or "./"')]
Component = Annotated[Text, matching(r"[A-Za-z0-9][A-Za-z0-9.+/_-]*", 'a component such as "main"')]
Variant = Annotated[Text, matching(r"minbase|buildd|standard", '"minbase", "buildd" or "standard"')]


@dataclass(frozen=True, config=STRICT)
class Repository:
    """A further apt repository, in the tree from the first package on."""

    uri: Annotated[Uri, Field(description="Its address.")]
    suite: Annotated[FlatSuite, Field(description="Its suite; one that ends in `/` is a flat repository.")]
    components: Annotated[
        tuple[Component, ...], Field(description="Its components; none for a flat repository.")
    ] = ("main",)  # fmt: skip
    key: Annotated[
        File | None,
        Field(
            description="File with its signing keys (binary or ASCII armour), relative to the image's folder; "
            "it lands in `/etc/apt/keyrings`. Default: the keys of Debian's archive."
        ),
    ] = None

    @property
    def slug(self) -> str:
        """A name for its files below /etc/apt."""
        parts = urlsplit(self.uri)
        return re.sub(r"[^a-z0-9]+", "-", f"{parts.netloc}{parts.path} {self.suite}".lower()).strip("-")

    def key_path(self, key: bytes) -> str:
        """Where its key lies in the tree: apt tells the kinds apart by the ending (sources.list(5))."""
        return f"/etc/apt/keyrings/{self.slug}.{'asc' if _is_armoured(key) else 'gpg'}"

    def sources(self, signed_by: str) -> str:
        """Its file below /etc/apt/sources.list.d, in the format deb822."""
        components = [] if self.suite.endswith("/") else [f"Components: {' '.join(self.components)}"]
        lines = ["Types: deb", f"URIs: {self.uri}", f"Suites: {self.suite}", *components, f"Signed-By:{signed_by}"]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, config=STRICT)
class DebianSettings(Settings):
    """What Debian's methods want to know."""

    suite: Annotated[
        Suite, Field(description="Suite or code name of the release.", examples=["stable", "trixie", "sid"])
    ] = "stable"  # fmt: skip
    variant: Annotated[
        Variant,
        Field(
            description='Packages that come by themselves: "minbase" (essential ones and apt), "buildd" (a compiler as '
            'well), "standard" (what Debian\'s installer takes). An init, the bus and login sessions always come.',
            json_schema_extra={"enum": ["minbase", "buildd", "standard"]},
        ),
    ] = "minbase"
    mirror: Annotated[
        Uri | None,
        Field(
            description="Address of the mirror. Default: Debian's own, with its updates and security suites where the "
            "release has them. A mirror named here is taken as it is: add those suites to `repositories`."
        ),
    ] = None
    components: Annotated[
        tuple[Component, ...],
        Field(min_length=1, description="Components of the archive.", examples=[["main", "contrib"]]),
    ] = ("main",)
    repositories: Annotated[
        tuple[Repository, ...], Field(description="Further apt repositories, with their keys.")
    ] = field(default=())  # fmt: skip
    packages: Annotated[
        Packages,
        Field(description="Packages of the base, shared by all images with the same `[bootstrap]`."),
    ] = ()

    @property
    def summary(self) -> str:
        return f"{self.method} {self.suite}"

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(repository.key for repository in self.repositories if repository.key is not None)

    def world(self, tree: Path) -> tuple[Source, ...]:
        return indices(tree)

    @property
    def include(self) -> tuple[str, ...]:
        """All packages to ask for."""
        return (*MACHINE, *(name for name in self.packages if name not in MACHINE))


@dataclass(frozen=True)
class RepositoryFiles:
    """What a repository has below /etc/apt: paths in the tree and what is in them.

    `building` is its sources file with the key inside, so that apt can use it from within and from outside of the
    tree; `final` is the one that stays, with the key in a file of its own.
    """

    sources_path: str
    building: str
    final: str
    key_path: str | None
    key: bytes


def repository_files(settings: DebianSettings, base: Path) -> list[RepositoryFiles]:
    """The files of all further repositories. Raises `InputError` for a key that cannot be read."""
    found = []
    for index, repository in enumerate(settings.repositories):
        sources = f"/etc/apt/sources.list.d/{index + 1:02}-{repository.slug}.sources"
        if repository.key is None:
            text = repository.sources(f" {KEYRING}")
            found.append(RepositoryFiles(sources, text, text, None, b""))
            continue
        try:
            key = (base / repository.key).read_bytes()
        except OSError as error:
            raise InputError(
                f"bootstrap.repositories[{index}].key: {base / repository.key}: {error.strerror}"
            ) from error
        path = repository.key_path(key)
        inline = "".join(f"\n {line or '.'}" for line in _armour(key).splitlines())
        found.append(RepositoryFiles(sources, repository.sources(inline), repository.sources(f" {path}"), path, key))
    return found


def _is_armoured(key: bytes) -> bool:
    return key.lstrip().startswith(b"-----BEGIN PGP")


def _armour(key: bytes) -> str:
    """A key as ASCII armour (RFC 9580, section 6; the checksum is optional)."""
    if _is_armoured(key):
        return key.decode("ascii", errors="replace").strip()
    body = base64.b64encode(key).decode()
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join(["-----BEGIN PGP PUBLIC KEY BLOCK-----", "", *lines, "-----END PGP PUBLIC KEY BLOCK-----"])


class _Attentive(BuildLog):
    """Passes all lines on to a log, and stops at a component that there is not: apt only warns of it.

    It knows apt's warning, and a line `Components: …` of the Release file, which a method may print.
    """

    def __init__(self, log: BuildLog, settings: DebianSettings) -> None:
        super().__init__()
        self.path = log.path
        self._log = log
        self._settings = settings

    def line(self, text: str) -> None:
        self._log.line(text)
        if found := re.search(r"doesn't have the component '([^']+)'", text):
            raise InputError(f'bootstrap.components of image.toml: "{found[1]}" is no component of a repository')
        if text.startswith("Components: "):
            known = text.split()[1:]
            for name in self._settings.components:
                if name not in known:
                    raise InputError(
                        f'bootstrap.components of image.toml: "{name}" is no component of suite '
                        f'"{self._settings.suite}"; those are {", ".join(known)}'
                    )


@contextmanager
def explained(settings: DebianSettings, log: BuildLog) -> Iterator[BuildLog]:
    """Gives a failing command the hint that names the key of image.toml which is wrong, where its output tells.

    Yields the log to run commands with: a component that does not exist is a warning of apt's, and an error here.
    """
    try:
        yield _Attentive(log, settings)
    except CommandFailed as error:
        error.hint = hint(settings, error.tail) or error.hint
        raise


def hint(settings: DebianSettings, tail: str) -> str | None:
    """What the end of apt's, mmdebstrap's or debootstrap's output says about image.toml.

    The texts are those of apt 2.6 to 3.0 and debootstrap 1.0.128.
    """
    if found := re.search(r"The repository '(\S+) (\S+) Release' does(?: not|n't) have a Release file", tail):
        return _suite(settings, found[1], found[2])
    if re.search(r"No such script: .*/scripts/", tail):
        return _suite(settings, "", settings.suite)
    if re.search(r"(?:NO_PUBKEY|Missing key|signed by unknown key|is not signed|couldn't be verified)", tail):
        return _key(settings, tail)
    if re.search(r"Release file for \S+ is (expired|not valid yet)", tail):
        key = _mirror_key(settings, tail)
        return f"the mirror is out of date, or this machine's clock is wrong; name another as {key} of image.toml"
    unreachable = (
        r"Could not (?:connect|resolve)|Connection (?:timed out|failed|refused)|Unable to connect|"
        r"Failed getting release file|Temporary failure resolving|Couldn't download|Failed to fetch"
    )
    if re.search(unreachable, tail):
        return _mirror(settings, tail)
    if lost := _lost_packages(tail):
        ours = [name for name in lost if name in settings.packages]
        if not ours:
            return f'suite "{settings.suite}" (bootstrap.suite of image.toml) does not have {", ".join(lost)}'
        return f"bootstrap.packages of image.toml names {', '.join(ours)}, which no repository of the image has"
    if "No space left on device" in tail:
        return "free some room where the bootstrap is made"
    return None


def _lost_packages(tail: str) -> list[str]:
    found = re.findall(r"Unable to locate package (\S+)|Package '?([^\s']+)'? has no installation candidate", tail)
    lost = [first or second for first, second in found]
    lost += re.findall(r"Version '[^']*' for '([^']+)' was not found", tail)
    for names in re.findall(r"Couldn't find these debs: (.+)", tail):
        lost += names.split()
    return list(dict.fromkeys(lost))


def _repository(settings: DebianSettings, text: str) -> int | None:
    """The number of the further repository of which a text speaks."""
    for index, repository in enumerate(settings.repositories):
        if repository.uri.rstrip("/") in text:
            return index
    return None


def _suite(settings: DebianSettings, uri: str, suite: str) -> str:
    index = _repository(settings, uri)
    if index is not None and settings.repositories[index].suite == suite:
        return f'bootstrap.repositories[{index}].suite of image.toml: "{suite}" is no suite of {uri}'
    if suite != settings.suite:
        return f'the mirror lacks "{suite}": name another as bootstrap.mirror of image.toml, or another bootstrap.suite'
    return f'bootstrap.suite of image.toml: "{suite}" is no suite of the mirror; "stable" is one, or a code name'


def _mirror_key(settings: DebianSettings, text: str) -> str:
    if (index := _repository(settings, text)) is not None:
        return f"bootstrap.repositories[{index}].uri"
    return "bootstrap.mirror"


def _mirror(settings: DebianSettings, text: str) -> str:
    key = _mirror_key(settings, text)
    if key == "bootstrap.mirror" and settings.mirror is None:
        return "Debian's mirror does not answer: look at the network and proxy, or name another as bootstrap.mirror"
    value = (
        settings.mirror if key == "bootstrap.mirror" else settings.repositories[_repository(settings, text) or 0].uri
    )
    return f'{key} of image.toml: "{value}" does not answer'


def _key(settings: DebianSettings, text: str) -> str:
    if (index := _repository(settings, text)) is not None:
        return f"bootstrap.repositories[{index}].key of image.toml has no key for that repository's signature"
    return f"this machine has no key for the archive's signature: install or update debian-archive-keyring ({KEYRING})"
