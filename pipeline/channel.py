"""A line to the process that owns the terminal: JSON objects, one a line, over a Unix socket.

Workers (pytest-xdist), and a whole session that runs inside the appliance, tell it what they do and ask it for
errands. `Listener` is its end, `tell` and `ask` are theirs; its path travels in the environment. Knows nothing
of what is said.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from pipeline.errors import GoldspawnError
from pipeline.scratch import scratch_for_one

ENVIRONMENT = "GOLDSPAWN_CHANNEL"
"""The environment variable that holds the socket's path."""

INSIDE = "GOLDSPAWN_INSIDE"
"""Set in a session that runs inside the appliance: the folder that it shares with the outer machine."""
AT_ONCE = "GOLDSPAWN_AT_ONCE"
"""The variable in which a session says how many images its errands are for at once."""

Message = dict[str, Any]
Handler = Callable[[Message], Message | None]


def available() -> bool:
    """Whether there is somebody at the other end to tell."""
    return ENVIRONMENT in os.environ


def tell(message: Message) -> None:
    """Sends one message, in the order of the calls; what nobody hears any more is dropped."""
    with contextlib.suppress(OSError):
        _line().send(message)


def ask(message: Message) -> Message:
    """Sends one message over a line of its own and waits for the answer, however long that takes.

    Raises `GoldspawnError` with the other end's own words when it could not do what was asked.
    """
    try:
        with contextlib.closing(_Line()) as line:
            line.send({**message, "answer": True})
            answer = line.receive()
    except OSError as error:
        raise GoldspawnError(f"the process that started this session is gone ({error})") from error
    if answer is None:
        raise GoldspawnError("the process that started this session hung up")
    if "error" in answer:
        raise GoldspawnError(answer["error"], hint=answer.get("hint"))
    return answer


class Listener:
    """The owner's end: calls `handler` with each message, in a thread for each line.

    What the handler returns is the answer to `ask`; a `GoldspawnError` that it raises travels to who asked. `path` is
    the socket, in a folder of its own that is cleared by the next owner if this one is killed.
    """

    def __init__(self, handler: Handler) -> None:
        self._closing = contextlib.ExitStack()
        self.path = self._closing.enter_context(scratch_for_one()) / "channel"
        self._handler = handler
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(self.path))
        self._socket.listen(64)
        threading.Thread(target=self._accept, daemon=True, name="goldspawn-channel").start()

    def close(self) -> None:
        self._socket.close()
        self._closing.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(_Line(connection)) as line:
            while (message := line.receive()) is not None:
                wants_answer = message.pop("answer", False)
                try:
                    answer = self._handler(message) or {}
                except GoldspawnError as error:
                    answer = {"error": error.message, "hint": error.hint}
                if wants_answer:
                    line.send(answer)


class _Line:
    def __init__(self, connection: socket.socket | None = None) -> None:
        if connection is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(os.environ[ENVIRONMENT])
        self._connection = connection
        self._reader = connection.makefile("r", encoding="utf-8")
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        data = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._connection.sendall(data)

    def receive(self) -> Message | None:
        line = self._reader.readline()
        message: Message | None = json.loads(line) if line.endswith("\n") else None
        return message

    def close(self) -> None:
        self._reader.close()
        self._connection.close()


_shared: tuple[int, _Line] | None = None
_opening = threading.Lock()


def _line() -> _Line:
    """This process's own standing line; a forked child opens another."""
    global _shared
    with _opening:
        if _shared is None or _shared[0] != os.getpid():
            _shared = (os.getpid(), _Line())
        return _shared[1]
