"""What can go wrong, in a user's words.

Every error that a user can meet is a `GoldspawnError`: it is shown as its own text, without a traceback.
Anything else that is raised is a mistake of ours and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class GoldspawnError(Exception):
    """A mistake in the input, or a failure of the world, that a user can understand.

    `message` says what is wrong, `hint` what would be right or what to do next (one line each, if possible), `stage`
    the stage of a build in which it happened, `blocks` whether no later check of the image can be made.
    """

    stage: str | None = None
    blocks: bool = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class InputError(GoldspawnError):
    """What the user wrote cannot be used: nothing has been touched yet."""


class PlaceError(GoldspawnError):
    """The place where a build should run lacks something: a tool, a pool, a right, room."""


class CheckFailed(GoldspawnError):
    """The machine is not what it should be."""


class CommandFailed(GoldspawnError):
    """A command ended with a status that it should not have, or did not end in time.

    `argv` is the command as started, `status` its exit status (negative: the signal that ended it; None: it
    took longer than it may), `tail` the last lines of its output, `log` the path of the whole log.
    """

    def __init__(
        self,
        argv: Sequence[str],
        status: int | None,
        tail: str,
        *,
        log: str | None = None,
        limit: float | None = None,
        hint: str | None = None,
    ) -> None:
        from shlex import join

        self.argv = tuple(argv)
        self.status = status
        self.tail = tail
        self.log = log
        ended = f"did not end within {limit:.0f} s" if status is None else _ending(status)
        lines = [f"{ended}: {join(argv)}"]
        if tail:
            lines += ["", *("  " + line for line in tail.splitlines()), ""]
        if log is not None:
            lines.append(f"whole log: {log}")
        super().__init__("\n".join(lines), hint=hint)

    def __str__(self) -> str:
        """What to do comes first, where that is known: commands are long, and summaries show a first line only."""
        return self.message if self.hint is None else f"{self.hint}\n{self.message}"


def _ending(status: int) -> str:
    return f"ended by signal {-status}" if status < 0 else f"exit status {status}"
