"""Ctrl-C where Python would lose it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held() -> Iterator[None]:
    """Keeps Ctrl-C back while the block runs, and lets it act behind that.

    For what calls back from C, where an exception is printed and forgotten: os.forkpty() does, for what was given to
    os.register_at_fork(), and since Python 3.12 to warn of threads. Only Ctrl-C in the main thread is meant, since no
    other one gets it (signal(3py)).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        signal.raise_signal(signal.SIGINT)
