"""Texts that must not be read by anybody: wherever we write what others said, they become `***`."""

from __future__ import annotations

_MASK = "***"
_SHORTEST = 6
"""Characters: what is shorter is part of too many words to be masked, or to be looked for."""

_hidden: list[str] = []


def telling(secret: bytes) -> list[str]:
    """The lines of a secret by which it is known, the longest first."""
    lines = {line.strip() for line in secret.decode(errors="replace").splitlines()}
    return sorted((line for line in lines if len(line) >= _SHORTEST), key=lambda line: (-len(line), line))


def hide(secret: bytes) -> None:
    """From now on, for as long as this process lives, `masked` hides each line of the secret."""
    global _hidden
    _hidden = sorted({*_hidden, *telling(secret)}, key=len, reverse=True)


def masked(text: str) -> str:
    """The text without what is hidden."""
    for one in _hidden:
        text = text.replace(one, _MASK)
    return text
