"""Whether what an image stands on is verified: whoever verifies an image leaves word of how that ended.

Workers of pytest-xdist hear of each other by it, also of one that was killed: from an image's first check to its last
one the word is that they did not end, and a lock says that they are still being made. The word of an earlier session
is of no account.

    /run/goldspawn/locks/IMAGE.red    when (Unix time), and what is wrong
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from pipeline import atomic
from pipeline.image import Image
from pipeline.locks import image_lock
from pipeline.place import Place


@contextlib.contextmanager
def judging(image: Image, place: Place, failed: Callable[[], Sequence[str]]) -> Iterator[None]:
    """While the checks of an image are made; then `failed` says which of them failed. Its workspace is open."""
    word = _word(image.name, place)
    with FileLock(_lock(word)):
        _leave(word, "its checks did not end")
        yield
        if names := failed():
            _leave(word, f"{names[0]} failed")
        else:
            word.unlink(missing_ok=True)


def red_base(image: Image, place: Place, *, since: float) -> str:
    """Which image that this one stands on is known not to be verified since then (Unix time), in words; "" for none."""
    for base in image.chain[1:]:
        word = _word(base.name, place)
        if not word.exists() or _being_judged(word):
            continue
        with contextlib.suppress(FileNotFoundError):
            moment, _, what = word.read_text().partition(" ")
            if float(moment) >= since:
                return f"{base.name}, on which it stands, is not verified: {what}"
    return ""


def _being_judged(word: Path) -> bool:
    """Whether checks are being made. Any number may ask at once, and none of them is taken for one who makes them."""
    with _lock(word).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _leave(word: Path, what: str) -> None:
    atomic.write(word, f"{time.time()} {what}")


def _word(name: str, place: Place) -> Path:
    return image_lock(name, place).with_suffix(".red")


def _lock(word: Path) -> Path:
    return word.with_suffix(".judged")
