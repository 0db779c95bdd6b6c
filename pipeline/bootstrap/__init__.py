"""Root file systems from nothing: one file a method, each registering itself.

A further method is one new file in this folder: a dataclass of settings (it becomes the section `[bootstrap]` of
image.toml), a `Method` with the one duty `make`, and a line that registers it. Nothing else names it.

Knows nothing of images as a whole, datasets or machines: settings in, a tar out.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from pipeline.bootstrap.method import Method, Settings, get, known, missing_tools, register

__all__ = ["Method", "Settings", "get", "known", "missing_tools", "register"]

for _file in sorted(Path(__file__).parent.glob("*.py")):
    if _file.stem != "__init__":
        import_module(f"{__name__}.{_file.stem}")
