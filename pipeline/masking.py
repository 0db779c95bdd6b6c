"""Texts that must not be read by anybody: wherever we write what others said, they become `***`."""

from __future__ import annotations

import re

from pipeline import netrc

_MASK = "***"
SHORTEST = 6
"""Bytes: what is shorter is part of too many words to be masked, or to be looked for."""
_NAME = 12
"""Bytes of a login's name that may be a key: shorter ones are words such as "customer" or "anonymous"."""

_FRAME = re.compile(rb"-----(BEGIN|END) [A-Z0-9 ]+-----|\[[^]]*\]")
"""Lines of a key or of a configuration that all of their kind have."""

_hidden: list[str] = []


def telling(secret: bytes, *, logins: bool = False) -> list[bytes]:
    """What a secret is known by wherever it stands, the longest first; none of it is shorter than `SHORTEST`.

    Of a text each line, but for those that frame it; of anything else the longest piece without an end of line. Of
    `logins` (apt_auth.conf(5)) the passwords, and names that are long enough to be keys.
    """
    if not _is_text(secret):
        pieces = [max(secret.split(b"\n"), key=len)]
    elif logins and (found := netrc.parse(secret.decode())):
        pieces = [one.password.encode() for one in found]
        pieces += [one.name.encode() for one in found if len(one.name.encode()) >= _NAME]
    else:
        lines = [line.strip() for line in secret.strip().splitlines()]
        pieces = [line for line in lines if len(lines) == 1 or not _FRAME.fullmatch(line)]
    return sorted({one for one in pieces if len(one) >= SHORTEST}, key=lambda one: (-len(one), one))


def too_short(secret: bytes, *, logins: bool = False) -> bool:
    """Whether a secret, or a password of `logins`, is too short to be known by."""
    if logins and _is_text(secret) and (found := netrc.parse(secret.decode())):
        return any(len(one.password.encode()) < SHORTEST for one in found)
    return not telling(secret)


def _is_text(secret: bytes) -> bool:
    try:
        return "\0" not in secret.decode()
    except UnicodeDecodeError:
        return False


def hide(secret: bytes, *, logins: bool = False) -> None:
    """From now on, for as long as this process lives, `masked` hides what the secret is known by."""
    global _hidden
    texts = [piece.decode(errors="replace") for piece in telling(secret, logins=logins)]
    told = {text for text in texts if len(text.replace("\N{REPLACEMENT CHARACTER}", "")) >= SHORTEST}
    _hidden = sorted({*_hidden, *told}, key=len, reverse=True)


def masked(text: str) -> str:
    """The text without what is hidden."""
    for one in _hidden:
        text = text.replace(one, _MASK)
    return text
