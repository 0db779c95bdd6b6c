"""QEMU's control line (QMP): commands in, answers out, file descriptors handed over. Knows nothing of the appliance."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

from pipeline.errors import GoldspawnError


class QmpError(GoldspawnError):
    """QEMU refused a command, or is gone."""


class Qmp:
    """The line to one QEMU, over a connected socket."""

    def __init__(self, connection: socket.socket, *, timeout: float = 120.0) -> None:
        self._connection = connection
        self._connection.settimeout(timeout)
        self._reader = connection.makefile("r", encoding="utf-8")
        self._receive()  # the greeting
        self.call("qmp_capabilities")

    def call(self, command: str, fd: int | None = None, /, **arguments: Any) -> Any:
        """Runs one command and returns what it returns; `fd` travels along (getfd). Raises `QmpError`.

        Underscores in the names of arguments stand for the hyphens of QMP.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        data = json.dumps({"execute": command, "arguments": named}).encode() + b"\n"
        try:
            if fd is None:
                self._connection.sendall(data)
            else:
                socket.send_fds(self._connection, [data], [fd])
            while True:
                answer = self._receive()
                if "error" in answer:
                    raise QmpError(f"QEMU: {command}: {answer['error'].get('desc')}")
                if "return" in answer:
                    return answer["return"]
        except OSError as error:
            raise QmpError(f"QEMU: {command}: {error}") from error

    def monitor(self, line: str) -> str:
        """Runs a line of the human monitor, for what QMP has no command for."""
        return str(self.call("human-monitor-command", command_line=line))

    def migrated(self, *, limit: float) -> None:
        """Waits until a migration, in or out, is complete. Raises `QmpError` when it fails or takes `limit` seconds."""
        deadline = time.monotonic() + limit
        while (state := self.call("query-migrate").get("status")) != "completed":
            if state in ("failed", "cancelled") or time.monotonic() > deadline:
                raise QmpError(f"QEMU: the migration did not complete ({state})")
            time.sleep(0.02)  # migration events would need a capability and a reader; this ends within a second

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._reader.close()
            self._connection.close()

    def _receive(self) -> dict[str, Any]:
        try:
            line = self._reader.readline()
        except OSError as error:
            raise QmpError(f"QEMU does not answer: {error}") from error
        if not line:
            raise QmpError("QEMU is gone")
        answer: dict[str, Any] = json.loads(line)
        return answer
