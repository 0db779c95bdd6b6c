"""The world that a tree was drawn from, and a cheap look at whether it has moved since.

A distribution's package index, a repository of git: each is a `Source`, with the state in which it was when packages
came from it. The look is a conditional request for an index and `git ls-remote` for a repository: no package is fetched
and nothing is built. So what is reused never hides an update, and what did not move costs a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Literal

from pipeline import netrc
from pipeline.errors import PlaceError

Kind = Literal["index", "git", "age"]

_SILENCE = 20.0
"""Seconds after which a server that says nothing is given up."""

_DAY = 86400.0


@dataclass(frozen=True, order=True)
class Source:
    """One thing that packages came from.

    `state` is, of an "index", the SHA-256 of the file at `uri`; of a "git" repository the commit that was taken; an
    "age" is a thing that cannot be looked at, and counts as moved a day after `time`. `time` (Unix time, seconds) is
    when the index was last changed, by its server's word, else when the state was taken.
    """

    kind: Kind
    uri: str
    state: str = ""
    time: int = 0


def moved(sources: Iterable[Source], *, now: float | None = None) -> list[str]:
    """Which of the sources are not any more what they were, by their addresses; all are looked at side by side.

    Raises `PlaceError` for one that cannot be looked at.
    """
    unique = sorted(set(sources))
    if not unique:
        return []
    moment = time.time() if now is None else now
    with ThreadPoolExecutor(len(unique)) as pool:
        still = list(pool.map(lambda source: _LOOKS[source.kind](source, moment), unique))
    return [source.uri for source, same in zip(unique, still, strict=True) if not same]


def index(uri: str, file: Path) -> Source:
    """An index that lies on the disk as `file`, whose modification time is the server's (as apt leaves it)."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Source("index", uri, digest, int(file.stat().st_mtime))


def as_text(sources: Sequence[Source]) -> str:
    """Sources as one line of text, for a property or a file."""
    return json.dumps([[one.kind, one.uri, one.state, one.time] for one in sorted(set(sources))])


def from_text(text: str) -> tuple[Source, ...] | None:
    """What `as_text` wrote; None for anything else."""
    try:
        return tuple(Source(*row) for row in json.loads(text))
    except (ValueError, TypeError):
        return None


def _index_same(source: Source, now: float) -> bool:
    import urllib.error  # slow to import, and needed by builds only
    import urllib.request

    headers = {"If-Modified-Since": formatdate(source.time, usegmt=True)}
    request = urllib.request.Request(source.uri, headers=headers)
    for name, value in netrc.header(source.uri).items():
        request.add_unredirected_header(name, value)  # a login is for its server, and for none that this one names
    try:
        with urllib.request.urlopen(request, timeout=_SILENCE) as answer:
            return hashlib.sha256(answer.read()).hexdigest() == source.state
    except urllib.error.HTTPError as error:
        if error.code == 304:
            return True
        if error.code in (404, 410):
            return False
        raise _unseen(source.uri, f"status {error.code}") from error
    except (OSError, ValueError) as error:
        raise _unseen(source.uri, str(getattr(error, "reason", error))) from error


def _git_same(source: Source, now: float) -> bool:
    return _head(source.uri) == source.state


def _age_same(source: Source, now: float) -> bool:
    return 0 <= now - source.time < _DAY


_LOOKS: dict[Kind, Callable[[Source, float], bool]] = {"index": _index_same, "git": _git_same, "age": _age_same}


def _head(uri: str) -> str:
    argv = ["git", "-c", f"http.lowSpeedTime={_SILENCE:.0f}", "ls-remote", "--", uri, "HEAD"]
    env = {**os.environ, **netrc.git_for(uri)}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=env)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unseen(uri, str(error)) from error
    if done.returncode != 0 or not done.stdout.strip():
        lines = done.stderr.strip().splitlines()
        raise _unseen(uri, lines[-1] if lines else "it has no HEAD")
    return done.stdout.split()[0]


def _unseen(uri: str, why: str) -> PlaceError:
    return PlaceError(
        f"cannot look whether {uri} has changed: {why}",
        hint="look at the network, or take what is there with --frozen (--offline)",
    )
