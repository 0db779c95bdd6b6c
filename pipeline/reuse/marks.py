"""Facts about a snapshot as the text of one user property: JSON, packed where it is long.

zfsprops(7) gives a user property 8192 bytes; what does not fit is not written, and whoever reads it does without.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

ROOM = 8000
"""Characters that the text of a property may have."""


def packed(data: Any) -> str | None:
    """The data as text for a property, None if it is too much for one."""
    text = base64.b64encode(zlib.compress(json.dumps(data, sort_keys=True).encode(), 9)).decode()
    return text if len(text) <= ROOM else None


def unpacked(text: str | None) -> Any:
    """What `packed` wrote; None for anything else."""
    try:
        return json.loads(zlib.decompress(base64.b64decode(text or "", validate=True)))
    except (ValueError, zlib.error):
        return None
