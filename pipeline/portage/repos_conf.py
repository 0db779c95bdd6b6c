"""repos.conf (portage(5)): which repositories Portage knows, and where they are."""

from __future__ import annotations

import configparser
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.errors import GoldspawnError


def texts_of(*places: Path) -> list[str]:
    """The texts of repos.conf at each of the places: a file, a folder of files, or nothing."""
    files: list[Path] = []
    for place in places:
        files += sorted(place.glob("*")) if place.is_dir() else [place] if place.is_file() else []
    return [file.read_text(errors="replace") for file in files if not file.name.startswith(".")]


def parsed(texts: Iterable[str]) -> configparser.ConfigParser:
    """Texts of repos.conf as one: later ones win. Raises `GoldspawnError`."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, default_section="DEFAULT")
    try:
        for text in texts:
            parser.read_string(text)
    except configparser.Error as error:
        raise GoldspawnError(f"repos.conf cannot be read: {error}") from error
    return parser


def is_synced(section: configparser.SectionProxy) -> bool:
    """Whether a repository says where it can be fetched."""
    return bool(section.get("sync-type") or section.get("sync-uri"))


def locations(parser: configparser.ConfigParser) -> Mapping[str, str]:
    """The repositories of a repos.conf, with where they are."""
    return {name: parser[name]["location"] for name in parser.sections() if "location" in parser[name]}
