"""Options: on the command line, in `[tool.goldspawn]` of pyproject.toml, or in the environment (GOLDSPAWN_NAME)."""

from __future__ import annotations

import difflib
import os
import time
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from pipeline.build import Build, Wishes
from pipeline.channel import INSIDE
from pipeline.errors import InputError
from pipeline.lineage.deltas import KINDS
from pipeline.place import Choice, choose
from pipeline.reuse.plan import Policy
from pipeline.reuse.prune import Limits
from pipeline.user_cache import exchange


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
    Option(
        "build-host", list, "build on this host, in place there: [USER@]HOST[//python=PATH] (repeatable)", None, "HOST"
    ),
    Option("dataset", str, "ZFS dataset to build in (default: a file-backed pool of goldspawn's own)", None, "NAME"),
    Option("artifacts", str, "where verified builds are written (default: artifacts/)", None, "DIR"),
    Option("no-export", bool, "build and verify, but write no artifact", False),
    Option("no-report", bool, "write no pages (HTML) of what became of the run and each image", False),
    Option(
        "deltas",
        list,
        "beside what image.toml asks for, export what changed since: previous (version) or base (image); repeatable",
        metavar="SINCE",
    ),
    Option("plan", bool, "show how build cycles would be opened, and merge nothing", False),
    Option("reverify", bool, "boot and check an image that has not changed since it passed", False),
    Option("rebuild", str, "make anew: all, or from one STAGE on: bootstrap, cycles, packages, profile", None, "STAGE"),
    Option("frozen", bool, "take what is there as it is: do not look for updates of its packages", False),
    Option("offline", bool, "as --frozen, where there is no network", False),
    Option("bisect", bool, "where a machine does not boot, find the stage that broke it", False),
    Option("shell", bool, "open a shell in each machine when its checks are made, before it is powered off", False),
    Option("keep", bool, "where a check fails at a terminal, let the machine run until Enter is pressed", False),
    Option("cache-info", bool, "list what the cache holds, how large it is and why it is kept; builds nothing", False),
    Option("cache-days", float, "days after which what nothing stands on is pruned (default: 30)", 30.0, "DAYS"),
    Option("cache-number", float, "at most so many entries in the cache (default: 200)", 200.0, "N"),
    Option("cache-size", float, "at most so many GB in the cache (default: 100)", 100.0, "GB"),
    Option("max-age", float, "hours for which nobody looks for updates again (default: 0, look each time)", 0.0, "H"),
)


_BARE = {"rebuild": "bootstrap"}
"""Options that may stand without a value, and what they mean then."""

REBUILD = {"bootstrap": "bootstrap", "cycles": "cycles", "packages": "packages", "profile": "candidate"}
"""The stages from which on `--rebuild` makes anew, and what `reuse` calls them."""


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("goldspawn", "goldspawn: golden images for systemd-nspawn on ZFS")
    for option in OPTIONS:
        extra: dict[str, Any] = {"action": "store_true", "default": None}
        if option.kind is not bool:
            extra = {"action": "append" if option.kind is list else "store", "metavar": option.metavar, "default": None}
            extra["type"] = float if option.kind is float else str
        if option.name in _BARE:
            extra |= {"nargs": "?", "const": _BARE[option.name]}
        group.addoption(f"--{option.name}", dest=_dest(option.name), help=option.help, **extra)


@dataclass
class Settings:
    """What the user wants of this session, from all three sources; the command line wins, then the environment."""

    images: tuple[Path, ...]
    names: tuple[str, ...]
    where: str
    build_hosts: tuple[str, ...]
    dataset: str | None
    wishes: Wishes
    report: bool = True
    builds: dict[str, Build] = field(default_factory=dict)

    @property
    def inside(self) -> str | None:
        """In a session that runs inside the appliance: its accelerator; None elsewhere."""
        return os.environ.get("GOLDSPAWN_ACCELERATOR") if INSIDE in os.environ else None

    @cached_property
    def choice(self) -> Choice:
        """Where this session builds. Starts nothing."""
        return Choice("native", "inside the appliance") if INSIDE in os.environ else choose(self.where)


HOSTED = "goldspawn"
"""Under which the input of a worker on a build host (pytest-xdist's `workerinput`) has what it is told of us."""

_KEY = pytest.StashKey[Settings]()


def settings(config: pytest.Config) -> Settings:
    """The session's settings. Raises `InputError` with one line for each that cannot be used."""
    if _KEY not in config.stash:
        config.stash[_KEY] = _resolve(config)
    return config.stash[_KEY]


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
    if values["rebuild"] is not None and values["rebuild"] not in REBUILD:
        raise InputError(f'rebuild = "{values["rebuild"]}": expected {", ".join(REBUILD)}, or no value for all')
    taken = "offline" if values["offline"] else "frozen" if values["frozen"] else ""
    base = config.invocation_params.dir
    hosted = getattr(config, "workerinput", {}).get(HOSTED)
    if hosted is not None:  # a worker on a build host: what is named by a path lies elsewhere there
        values |= {"images": hosted["images"], "artifacts": hosted["artifacts"], "where": "native"}
    return Settings(
        images=tuple((base / folder).resolve() for folder in values["images"] or ()),
        names=tuple(values["image"] or ()),
        where=values["where"],
        build_hosts=tuple(values["build-host"] or ()),
        dataset=values["dataset"],
        report=not values["no-report"],
        wishes=Wishes(
            artifacts=(base / values["artifacts"]).resolve() if values["artifacts"] else config.rootpath / "artifacts",
            shared=exchange(),
            export=not values["no-export"],
            plan=values["plan"],
            deltas=tuple(values["deltas"] or ()),
            policy=Policy(REBUILD.get(values["rebuild"] or "", ""), bool(taken), values["max-age"] * 3600.0, _began()),
            reverify=values["reverify"] or values["shell"],
            bisect=values["bisect"],
            shell=values["shell"],
            keep=values["keep"],
            limits=Limits(values["cache-days"], int(values["cache-number"]), values["cache-size"] * 1e9),
            taken=taken,
        ),
    )


def _began() -> float:
    """When this session began (Unix time, seconds); pytest-xdist's workers have it in the environment they inherit."""
    return float(os.environ.setdefault("GOLDSPAWN_BEGAN", str(time.time())))


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
