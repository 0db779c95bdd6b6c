"""What a root's own configuration says, as Portage resolves it: of profiles, the image's folder and image.toml."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.command import output
from pipeline.portage import Emerge, configuration
from pipeline.portage.cycles import Root

FLAGS = ("CHOST", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "FFLAGS", "FCFLAGS", "LDFLAGS", "RUSTFLAGS", "CC", "CXX")
"""What makes another binary of the same package, and is no USE flag: those are in the index of binary packages."""

_OF_PACKAGES = ("package.env", "env", "patches", "bashrc")
"""Of /etc/portage, what does so for single packages (portage(5))."""


@dataclass(frozen=True)
class Resolved:
    """The variables of a root, by name ("" for one that is not set), and what its make.conf has against words of ours.

    `refused` are words that FEATURES of make.conf has with a dash before them.
    """

    variables: Mapping[str, str]
    refused: frozenset[str]
    digest: str = ""

    @classmethod
    def of(cls, emerge: Emerge, etc: Path, *names: str, at: Root = "target") -> Resolved:
        """Asks portageq for `names`, and for all that is asked of a `Resolved`; `etc` is that root's /etc/portage.

        Where Portage cannot read the configuration all are "": the next emerge says why.
        """
        asked = ("MAKEOPTS", "PKGDIR", *FLAGS, *names)
        env = {"PORTAGE_CONFIGROOT": emerge.config_root or emerge.root} if at == "target" and not emerge.own else {}
        argv = emerge.argv("portageq", "envvar", "-v", *asked, at=at, env=env)
        told = output(argv, log=emerge.log, timeout=120 * emerge.slowness, check=False).stdout
        found = dict(word.split("=", 1) for word in shlex.split(told) if "=" in word)
        return cls({name: found.get(name, "") for name in asked}, cls.refused_by(etc), cls.digest_of(etc))

    @staticmethod
    def refused_by(etc: Path) -> frozenset[str]:
        """The words of FEATURES that make.conf takes away."""
        words: dict[str, bool] = {}
        for file in _files(etc / "make.conf"):
            text = re.sub(r"^\s*#.*", "", file.read_text(errors="replace"), flags=re.MULTILINE)
            for value in re.findall(r"^\s*FEATURES\s*=\s*(\"[^\"]*\"|'[^']*'|\S*)", text, re.MULTILINE):
                words.update({word.lstrip("-"): word.startswith("-") for word in value.strip("\"'").split()})
        return frozenset(word for word, off in words.items() if off)

    @staticmethod
    def digest_of(etc: Path) -> str:
        """What of an /etc/portage is for single packages: "" for nothing."""
        found = [
            (str(file.relative_to(etc)), file.read_bytes()) for name in _OF_PACKAGES for file in _files(etc / name)
        ]
        return hashlib.sha256(repr(found).encode()).hexdigest() if found else ""

    @property
    def packages(self) -> str:
        """The name of the folder for binary packages of these flags: `x86_64-pc-linux-gnu_O2_pipe-1a2b3c4d`."""
        told = [" ".join(self.variables.get(name, "").split()) for name in FLAGS]
        digest = hashlib.sha256("\0".join([*told, self.digest]).encode()).hexdigest()[:8]
        words = [told[0] or "unknown", *(word.lstrip("-") for word in told[1].split())]
        return f"{re.sub(r'[^A-Za-z0-9_=+.-]+', '', '_'.join(words))[:80]}-{digest}"


def assigned(etc: Path, name: str) -> bool:
    """Whether make.conf sets a variable."""
    pattern = re.compile(rf"^\s*{name}\s*=", re.MULTILINE)
    return any(pattern.search(file.read_text(errors="replace")) for file in _files(etc / "make.conf"))


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.is_file())
    return [place] if place.is_file() else []


def say_packages(etc: Path, name: str) -> None:
    """Has a machine keep its binary packages in a folder of that name, beside those of other flags."""
    if not assigned(etc, "PKGDIR"):
        with configuration.place_for(etc / "make.conf").open("a") as out:
            out.write(f'PKGDIR="{configuration.PACKAGES}/{name}"\n')
