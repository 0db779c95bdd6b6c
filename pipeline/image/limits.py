"""Resource limits of a machine (setrlimit(2)), in the words that systemd takes for each (systemd.exec(5), LimitCPU=).

A line that it cannot read it leaves out with a warning, and the machine would run without that limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pipeline.bootstrap.values import refuse

_BYTES = {unit: 1024.0**power for power, unit in enumerate(("", "K", "M", "G", "T", "P", "E"))} | {"B": 1.0}

_SECONDS = {
    unit: seconds
    for seconds, units in {
        1e-6: "us usec µs",
        1e-3: "ms msec",
        1.0: "s sec second seconds",
        60.0: "m min minute minutes",
        3600.0: "h hr hour hours",
        86400.0: "d day days",
        604800.0: "w week weeks",
    }.items()
    for unit in units.split()
}
"""Units of time (systemd.time(7)) up to weeks."""


def _number(text: str) -> float:
    if not re.fullmatch(r"\d+", text):
        raise ValueError(text)
    return float(text)


def _size(text: str) -> float:
    if not (found := re.fullmatch(r"(\d+|\d+\.\d+(?=[KMGTPE]))([BKMGTPE]?)", text)):
        raise ValueError(text)
    return float(found[1]) * _BYTES[found[2]]


def _time(text: str, plain: float) -> float:
    """Seconds; a number without a unit is so many times `plain`."""
    one = r"(\d+(?:\.\d+)?) ?([a-zµ]*)"
    if not re.fullmatch(rf"{one}( ?{one})*", text):
        raise ValueError(text)
    try:
        return sum(float(number) * (_SECONDS[unit] if unit else plain) for number, unit in re.findall(one, text))
    except KeyError:
        raise ValueError(text) from None


def _nice(text: str) -> float:
    """As getrlimit(2) has it: 20 is the nice value 0, 40 is -20."""
    found = re.fullmatch(r"([+-]?)(\d+)", text)
    if not found or int(found[2]) > {"+": 19, "-": 20, "": 40}[found[1]]:
        raise ValueError(text)
    return float({"+": 20 - int(found[2]), "-": 20 + int(found[2]), "": int(found[2])}[found[1]])


_KINDS: Mapping[str, tuple[Callable[[str], float], str]] = {
    **dict.fromkeys(("locks", "nproc", "rtprio", "sigpending"), (_number, 'a number as "512"')),
    **dict.fromkeys(("as", "core", "data", "fsize", "memlock", "msgqueue", "rss", "stack"), (_size, 'a size as "8M"')),
    "cpu": (lambda text: _time(text, 1.0), 'a time as "90" (seconds) or "1min 30s"'),
    "rttime": (lambda text: _time(text, 1e-6), 'a time as "500" (microseconds) or "10ms"'),
    "nice": (_nice, 'a nice value as "-5" or "+5", or 0 to 40 as getrlimit(2) has it'),
}

LIMITS = tuple(_KINDS)
"""getrlimit(2), without the number of open files, which is `boot.nofile`."""


def limits(given: dict[str, str]) -> dict[str, str]:
    """The limits as they are. Raises the error of `refuse` for one that systemd would leave out."""
    for name, text in given.items():
        read, kind = _KINDS[name]
        try:
            soft, *hard = (float("inf") if one == "infinity" else read(one) for one in text.split(":"))
        except ValueError:
            raise refuse(f'for {name} {kind}, "infinity" or two of these as soft:hard', text) from None
        if len(hard) > 1 or (hard and soft > hard[0]):
            raise refuse(f"for {name} one value, or soft:hard with the soft one at most the hard one", text)
    return given
