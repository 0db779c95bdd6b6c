"""The image.toml of Gentoo images that tests merge: of our repository `tiny` and an overlay `local`, in our builder."""

from __future__ import annotations

import json
from pathlib import Path

MADE = Path(__file__).parent.parent / "images/gentoo1/made"
"""Where gentoo1 has the builder root and `tiny`, once they are made."""

OVERLAY = Path(__file__).parent / "overlay"


def definition(
    *sets: str,
    profile: str = "local:host/gentoo1",
    local: str = f'folder = "{OVERLAY}"',
    builder: str = f'tarball = "{MADE}/builder.tar.zst"',
    more: str = "",
) -> str:
    """An image.toml that merges `sets`; `local` says where the overlay is, `more` are lines of [bootstrap]."""
    return f"""
[bootstrap]
method = "gentoo"
profile = "{profile}"
main_repository = "tiny"
sets = {json.dumps(sets)}
builder = {{ {builder} }}
{more}
[[bootstrap.repositories]]
name = "tiny"
folder = "{MADE}/tiny"
[[bootstrap.repositories]]
name = "local"
{local}
"""
