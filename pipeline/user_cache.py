"""The user's cache: the folder in which everything lies that can be made again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from pipeline.channel import INSIDE


def default_cache() -> Path:
    """`$GOLDSPAWN_CACHE`, or the user's cache directory."""
    named = os.environ.get("GOLDSPAWN_CACHE")
    return Path(named).absolute() if named else Path(platformdirs.user_cache_dir("goldspawn"))


def exchange() -> Path:
    """The folder of the cache that this machine shares with its appliance: root file systems, byte code, digests."""
    if INSIDE in os.environ:
        return Path(os.environ[INSIDE])
    return default_cache() / "exchange"
