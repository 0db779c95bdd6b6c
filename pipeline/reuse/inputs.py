"""Identity by inputs: what each stage reads, by name, and the hashes that say whether a tree that is there still holds.

The inputs of a stage are the part of image.toml that it reads, the bytes and modes of the files it copies, the code of
the stage, and the key of the stage before it. What the world had to offer is no input but a state: `world`.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from pipeline.image import Image, as_data
from pipeline.reuse import digest

_CODE = Path(__file__).parents[1]
CODE = "goldspawn's own code"
"""The name of the input that is the code of a stage."""


@dataclass(frozen=True)
class Inputs:
    """What one stage reads: `reads` has each input by a name that its user knows, with its value as JSON or its digest.

    `below` is the key of the stage before.
    """

    stage: str
    reads: Mapping[str, str]
    below: str = ""

    @cached_property
    def key(self) -> str:
        """The hash of all that: 64 hexadecimal digits."""
        return _digest([self.stage, dict(self.reads), self.below])


@dataclass(frozen=True)
class Keys:
    """The inputs of an image's stages, lowest first, and that of the root which builds its packages ("" for none).

    The stages are "bootstrap", "cycles" (where sets have to be merged), "packages" (where the profile names some), and
    "candidate". Their keys are hexadecimal: 16 digits, and 64 for the candidate; "" for a stage that there is not.
    """

    inputs: tuple[Inputs, ...]
    builder: str = ""

    @property
    def bootstrap(self) -> str:
        return self._short("bootstrap")

    @property
    def cycles(self) -> str:
        return self._short("cycles")

    @property
    def packages(self) -> str:
        return self._short("packages")

    @property
    def candidate(self) -> str:
        return self.inputs[-1].key

    @property
    def of_tars(self) -> tuple[str, str, str]:
        """The keys of what can be made as a tar: bootstrap, builder, and the bootstrap with the sets merged."""
        return self.bootstrap, self.builder, self.cycles

    def of(self, stage: str) -> str:
        """The key of a stage as its snapshot has it, "" if there is no such stage."""
        return self.candidate if stage == "candidate" else self._short(stage)

    @property
    def reads(self) -> dict[str, Mapping[str, str]]:
        """What each stage reads, by the stage's name."""
        return {one.stage: one.reads for one in self.inputs}

    def _short(self, stage: str) -> str:
        return next((one.key[:16] for one in self.inputs if one.stage == stage), "")


def keys(image: Image) -> Keys:
    """Computes the keys of an image from its definition, its files and our code. Reads files, changes nothing."""
    found: list[Inputs] = []
    builder = ""
    if image.base is None:
        found.append(_bootstrap(image))
    if image.base is None and not image.bootstrap.whole:
        builder = _digest([digest.of_file(image.folder / name) for name in image.bootstrap.builder_files])[:16]
        found.append(_cycles(image, builder, found[-1].key))
    below = keys(image.base).candidate if image.base is not None else found[-1].key
    if image.profile.packages:
        found.append(_packages(image, below))
        below = found[-1].key
    found.append(_candidate(image, below))
    return Keys(tuple(found), builder)


def _bootstrap(image: Image) -> Inputs:
    elsewhere = image.bootstrap.elsewhere
    settings = {name: value for name, value in as_data(image.bootstrap).items() if name not in elsewhere}
    code = ["bootstrap", *([] if image.bootstrap.whole else ["portage/configuration.py"])]  # which writes /etc/portage
    reads = {
        **_named("bootstrap", settings),
        "artifact.compression": json.dumps(image.artifact.compression),
        "architecture": json.dumps(platform.machine()),
        **{f"file {name}": digest.of_file(image.folder / name) for name in image.bootstrap.files},
        **{f"folder {name}": _digest(_folder_digest(image.folder / name)) for name in image.bootstrap.copied},
        CODE: _digest([_code_digest(part) for part in code]),
    }
    return Inputs("bootstrap", reads)


def _cycles(image: Image, builder: str, below: str) -> Inputs:
    reads = {
        "builder": builder,
        **{
            f"folder {name}": _digest(_repository_digest(image.folder / name))
            for name in image.bootstrap.folders(image.folder)
        },
        CODE: _digest([_code_digest("portage"), _code_digest("gentoo")]),
    }
    return Inputs("cycles", reads, below)


def _packages(image: Image, below: str) -> Inputs:
    reads = {
        "profile.packages": json.dumps(image.profile.packages),
        **_compression(image),
        CODE: _code_digest("profile/apt.py"),
    }
    return Inputs("packages", reads, below)


def _candidate(image: Image, below: str) -> Inputs:
    settings = {name: value for name, value in as_data(image.profile).items() if name != "packages"}
    files = _folder_digest(image.root) if image.root is not None else []
    reads = {
        "name": json.dumps(image.name),
        **_compression(image),
        **_named("profile", settings),
        **({"secrets": json.dumps(given)} if (given := image.secrets_for("run")) else {}),
        **{f"root/{name}": " ".join(rest) for name, *rest in files},
        CODE: _code_digest("profile"),
    }
    return Inputs("candidate", reads, below)


def _compression(image: Image) -> dict[str, str]:
    """Compression, where it is not that of the layer below, which is then the base's."""
    return {} if image.base is None else {"artifact.compression": json.dumps(image.artifact.compression)}


def _named(section: str, data: Mapping[str, Any]) -> dict[str, str]:
    return {f"{section}.{key}": json.dumps(value, sort_keys=True) for key, value in data.items()}


def _digest(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


@lru_cache
def _code_digest(part: str) -> str:
    """The digest of a folder of our code, or of one file."""
    at = _CODE / part
    files = [at] if at.is_file() else sorted(path for path in at.rglob("*") if path.suffix in (".py", ".sh"))
    return _digest([(path.name, digest.of_file(path)) for path in files])


def _folder_digest(root: Path) -> list[tuple[str, ...]]:
    return sorted(_entries(root))


def _repository_digest(root: Path) -> list[tuple[str, ...]]:
    """As `_folder_digest`, without what git keeps beside the files of a checkout: to fetch changes none of them."""
    return sorted(_entries(root, without=".git"))


def _entries(root: Path, *, without: str = "") -> Iterable[tuple[str, ...]]:
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        if without in relative.parts:
            continue
        if path.is_symlink():
            yield str(relative), "link", str(path.readlink())
        else:
            mode = oct(path.stat().st_mode)
            yield str(relative), mode, digest.of_file(path)
