"""The configuration of a target: what stands below R/etc/portage, as a plan (`files`) and written out (`write`).

Knows nothing of images. The names are those of portage(5) and make.conf(5).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.errors import InputError
from pipeline.portage import repos_conf

REPOSITORIES = PurePosixPath("/var/db/repos")
"""Where ebuild repositories are, in the builder and in the machine."""
DISTFILES = PurePosixPath("/var/cache/distfiles")
PACKAGES = PurePosixPath("/var/cache/binpkgs")
BUILDER_PACKAGES = PurePosixPath("/var/cache/binpkgs-builder")
"""Where a builder root keeps binary packages of its own: its compiler flags are others than the target's."""
BINHOSTS = PurePosixPath("/var/cache/binhost")
"""Where Portage keeps what it fetches from binhosts."""
ETC = Path("etc/portage")

SETS = ("use", "accept_keywords", "mask", "unmask", "license", "env")
"""The files package.* that hold a line an atom."""


@dataclass(frozen=True)
class Repository:
    """An ebuild repository: `git` None for one whose folder is provided, else the address it is synced from."""

    name: str
    git: str | None = None
    commit: str | None = None
    verify: bool = False
    keys: bool = False
    priority: int | None = None

    @property
    def location(self) -> str:
        return str(REPOSITORIES / self.name)


@dataclass(frozen=True)
class Binhost:
    """A server of binary packages (binrepos.conf): `verify` says whether packages must be signed."""

    name: str
    uri: str
    verify: bool = True
    priority: int | None = None


@dataclass(frozen=True)
class Configuration:
    """What Portage is to know about a target.

    `profile` is "repository:path", `variables` are those of make.conf, `packages` the lines of the files package.*
    by the end of their names, `main` the repository that others take for their master (portage(5), repos.conf).
    """

    profile: str
    variables: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    repositories: Sequence[Repository] = ()
    binhosts: Sequence[Binhost] = ()
    main: str | None = None


def files(configuration: Configuration) -> dict[Path, str]:
    """The files of a configuration by their paths below the target, without the link make.profile."""
    made = {ETC / "make.conf": _make_conf(configuration.variables)}
    for name in SETS:
        if lines := configuration.packages.get(name):
            made[ETC / f"package.{name}" / "goldspawn"] = "\n".join(lines) + "\n"
    if configuration.repositories:
        made[ETC / "repos.conf" / "goldspawn.conf"] = _repos_conf(configuration)
    if configuration.binhosts:
        made[ETC / "binrepos.conf" / "goldspawn.conf"] = _binrepos_conf(configuration.binhosts)
    return made


def profile_link(profile: str, locations: Mapping[str, str]) -> str:
    """Where make.profile has to point: the link is absolute, and right both in the builder and in the machine.

    `locations` are those of repositories that are not where they are by default.
    """
    repository, _, path = profile.partition(":")
    return f"{locations.get(repository, REPOSITORIES / repository)}/profiles/{path}"


def write(configuration: Configuration, tree: Path, folder: Path | None = None) -> None:
    """Writes a target's configuration: first the image's own `folder`, then what image.toml says, and make.profile.

    In the folder each may be a file or a directory, as portage(5) allows; nothing of it is lost. Raises `InputError`
    for one whose make.profile is a profile by itself.
    """
    if folder is not None:
        profile = folder / "make.profile"
        if profile.is_dir() and not profile.is_symlink():
            raise InputError(
                f"{profile}: a directory; the profile is what bootstrap.profile of image.toml says",
                hint="make it a profile of one of the image's repositories, and name it there",
            )
        shutil.copytree(folder, tree / ETC, symlinks=True, dirs_exist_ok=True)
    for path, text in files(configuration).items():
        with place_for(tree / path).open("a") as out:
            out.write(text)
    link = tree / ETC / "make.profile"
    link.unlink(missing_ok=True)
    known = repos_conf.parsed(repos_conf.texts_of(tree / ETC / "repos.conf"))
    link.symlink_to(profile_link(configuration.profile, repos_conf.locations(known)))


def place_for(file: Path) -> Path:
    """Where to write what one of Portage's files is to say: it, and its folder, may be file or directory (portage(5)).

    Makes room for it; nothing that is there is lost.
    """
    if file.is_dir():
        return file / "goldspawn"
    if file.parent.is_file():
        _make_directory(file.parent)
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _make_directory(file: Path) -> None:
    """Makes a directory of a file: the file stands in it, and is read before ours."""
    aside = file.with_name(f".{file.name}")
    file.rename(aside)
    file.mkdir()
    aside.rename(file / "folder")


def check_profile(profile: str, repositories: Mapping[str, Path], *, key: str) -> None:
    """Raises `InputError` that names the nearest ones if `profile` is none of the repositories' (name and folder).

    `key` is what image.toml calls it.
    """
    repository, _, path = profile.partition(":")
    if repository not in repositories:
        raise InputError(
            f'{key} of image.toml: "{profile}": there is no repository "{repository}"',
            hint=f"the repositories are: {', '.join(sorted(repositories)) or 'none'}",
        )
    profiles = repositories[repository] / "profiles"
    if (profiles / path).is_dir() and _is_profile(profiles / path):
        return
    import difflib  # slow to import, and seldom needed

    known = sorted(_profiles(profiles))
    near = difflib.get_close_matches(path, known, 3, 0.4) or known[:3]
    raise InputError(
        f'{key} of image.toml: "{profile}": repository {repository} has no such profile',
        hint=f"the nearest: {', '.join(f'{repository}:{one}' for one in near) or 'it has none at all'}",
    )


def _is_profile(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("parent", "make.defaults", "packages", "eapi", "profile.bashrc"))


def _profiles(folder: Path) -> set[str]:
    found = {
        str(path.parent.relative_to(folder)) for name in ("parent", "make.defaults") for path in folder.rglob(name)
    }
    listed = folder / "profiles.desc"
    if listed.is_file():
        rows = (line.split() for line in listed.read_text().splitlines() if not line.startswith("#"))
        found |= {row[1] for row in rows if len(row) > 2}
    return found - {"."}


def _make_conf(variables: Mapping[str, str]) -> str:
    lines = ["# By goldspawn, from image.toml (make.conf(5))."]
    for name, value in variables.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'{name}="{escaped}"')
    return "\n".join(lines) + "\n"


def _repos_conf(configuration: Configuration) -> str:
    lines = ["# By goldspawn, from image.toml (portage(5), repos.conf)."]
    if configuration.main is not None:
        lines += ["[DEFAULT]", f"main-repo = {configuration.main}", ""]
    for one in configuration.repositories:
        lines += [f"[{one.name}]", f"location = {one.location}"]
        if one.priority is not None:
            lines.append(f"priority = {one.priority}")
        if one.git is None:
            lines.append("auto-sync = no")
        else:
            # A machine would sync to the newest; the commit that was pinned is what it was built from.
            lines += ["sync-type = git", f"sync-uri = {one.git}", f"auto-sync = {'no' if one.commit else 'yes'}"]
            if one.commit:  # the newest commit alone is what a shallow clone has
                lines += ["clone-depth = 0", "sync-depth = 0"]
            lines.append(f"sync-git-verify-commit-signature = {'yes' if one.verify else 'no'}")
            if one.keys:
                # The image says which keys: no server is asked for newer ones, and none need know them.
                lines.append(f"sync-openpgp-key-path = /etc/portage/goldspawn-keys/{one.name}.asc")
                lines.append("sync-openpgp-key-refresh = no")
        lines.append("")
    return "\n".join(lines)


def _binrepos_conf(binhosts: Sequence[Binhost]) -> str:
    lines = ["# By goldspawn, from image.toml (portage(5), binrepos.conf)."]
    for one in binhosts:
        lines += [f"[{one.name}]", f"sync-uri = {one.uri}", f"verify-signature = {'true' if one.verify else 'false'}"]
        if one.priority is not None:
            lines.append(f"priority = {one.priority}")
        lines.append("")
    return "\n".join(lines)
