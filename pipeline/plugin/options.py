"""Options: on the command line, in `[tool.goldspawn]` of pyproject.toml, or in the environment (GOLDSPAWN_NAME)."""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from pipeline.appliance.store import default_cache
from pipeline.build import Build, Wishes
from pipeline.deltas import KINDS
from pipeline.errors import InputError
from pipeline.place import Choice, choose
from pipeline.tarball import INSIDE


@dataclass(frozen=True)
class Option:
    """One option: `kind` is str, float, bool or list; `default` None means that there is none."""

    name: str
    kind: type
    help: str
    default: Any = None
    metavar: str = ""


OPTIONS = (
    Option("images", list, "a folder of images that lives elsewhere (repeatable)", metavar="DIR"),
    Option("image", list, "take exactly this image (repeatable); -k takes all whose name contains it", metavar="NAME"),
    Option("where", str, "where to build: auto, native or appliance (default: auto)", "auto", "PLACE"),
    Option("dataset", str, "ZFS dataset to build in (default: a file-backed pool of goldspawn's own)", None, "NAME"),
    Option("artifacts", str, "where verified builds are written (default: artifacts/)", None, "DIR"),
    Option("no-export", bool, "build and verify, but write no artifact", False),
    Option(
        "deltas",
        list,
        "beside what image.toml asks for, export what changed since: previous (version) or base (image); repeatable",
        metavar="SINCE",
    ),
    Option("plan", bool, "show how build cycles would be opened, and merge nothing", False),
    Option(
        "max-age", float, "hours for which fetched packages are reused; 0 starts from nothing (default: 24)", 24.0, "H"
    ),
)


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("goldspawn", "goldspawn: golden images for systemd-nspawn on ZFS")
    for option in OPTIONS:
        extra: dict[str, Any] = {"action": "store_true", "default": None}
        if option.kind is not bool:
            extra = {"action": "append" if option.kind is list else "store", "metavar": option.metavar, "default": None}
            extra["type"] = float if option.kind is float else str
        group.addoption(f"--{option.name}", dest=_dest(option.name), help=option.help, **extra)


@dataclass
class Settings:
    """What the user wants of this session, from all three sources; the command line wins, then the environment."""

    images: tuple[Path, ...]
    names: tuple[str, ...]
    where: str
    dataset: str | None
    wishes: Wishes
    builds: dict[str, Build] = field(default_factory=dict)

    @property
    def inside(self) -> str | None:
        """In a session that runs inside the appliance: its accelerator; None elsewhere."""
        return os.environ.get("GOLDSPAWN_ACCELERATOR") if INSIDE in os.environ else None

    @cached_property
    def choice(self) -> Choice:
        """Where this session builds. Starts nothing."""
        return Choice("native", "inside the appliance") if INSIDE in os.environ else choose(self.where)


_KEY = pytest.StashKey[Settings]()


def settings(config: pytest.Config) -> Settings:
    """The session's settings. Raises `InputError` with one line for each that cannot be used."""
    if _KEY not in config.stash:
        config.stash[_KEY] = _resolve(config)
    return config.stash[_KEY]


def exchange() -> Path:
    """The folder of the cache that this machine shares with its appliance: root file systems, byte code."""
    if INSIDE in os.environ:
        return Path(os.environ[INSIDE])
    return default_cache() / "exchange"


def _resolve(config: pytest.Config) -> Settings:
    table = _table(config.rootpath / "pyproject.toml")
    values: dict[str, Any] = {}
    for option in OPTIONS:
        given = config.getoption(_dest(option.name))
        variable = os.environ.get(f"GOLDSPAWN_{option.name.upper().replace('-', '_')}")
        if given is None and variable:
            given = _from_text(option, variable)
        values[option.name] = given if given is not None else table.get(option.name, option.default)
    if not values["max-age"] >= 0:  # not a number, as well
        raise InputError(f"max-age = {values['max-age']:g}: expected hours, 0 or more")
    if strange := sorted(set(values["deltas"] or ()) - set(KINDS)):
        raise InputError(f'deltas = "{strange[0]}": expected "previous" or "base"')
    base = config.invocation_params.dir
    return Settings(
        images=tuple((base / folder).resolve() for folder in values["images"] or ()),
        names=tuple(values["image"] or ()),
        where=values["where"],
        dataset=values["dataset"],
        wishes=Wishes(
            artifacts=(base / values["artifacts"]).resolve() if values["artifacts"] else config.rootpath / "artifacts",
            export=not values["no-export"],
            plan=values["plan"],
            max_age=values["max-age"] * 3600.0,
            deltas=tuple(values["deltas"] or ()),
        ),
    )


def _table(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = (
        tomllib.loads(path.read_text()).get("tool", {}).get("goldspawn", {}) if path.exists() else {}
    )
    known = {option.name: option for option in OPTIONS}
    problems = []
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            problems.append(f"{key}: unknown key" + (f'; did you mean "{near[0]}"?' if near else ""))
        elif not _is(known[key].kind, value):
            problems.append(f"{key}: expected {_KINDS[known[key].kind]}, got {value!r}")
    if problems:
        raise InputError("\n".join(f"{path}: tool.goldspawn.{problem}" for problem in problems))
    return table


_KINDS = {str: "a string", float: "a number", bool: "true or false", list: "a list of strings"}


def _is(kind: type, value: object) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is list:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, kind)


def _from_text(option: Option, text: str) -> Any:
    if option.kind is bool:
        return text.lower() in ("1", "true", "yes", "on")
    if option.kind is list:
        return text.split(":")
    if option.kind is float:
        try:
            return float(text)
        except ValueError:
            variable = option.name.upper().replace("-", "_")
            raise InputError(f"GOLDSPAWN_{variable} = {text}: expected a number") from None
    return text


def _dest(name: str) -> str:
    return "goldspawn_" + name.replace("-", "_")
