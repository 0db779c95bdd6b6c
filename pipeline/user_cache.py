"""The user's cache: the folder in which everything lies that can be made again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def default_cache() -> Path:
    """`$GOLDSPAWN_CACHE`, or the user's cache directory."""
    named = os.environ.get("GOLDSPAWN_CACHE")
    return Path(named).absolute() if named else Path(platformdirs.user_cache_dir("goldspawn"))
