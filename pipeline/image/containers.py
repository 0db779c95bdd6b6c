"""The rules of values that containers have: what systemd.nspawn(5) and systemd.resource-control(5) take."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from pipeline.bootstrap.values import Text, matching, refuse
from pipeline.image.limits import LIMITS, limits

CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ]
)
"""capabilities(7), Linux 6.12."""

SYSTEM_CALLS = tuple(
    f"@{name}"
    for name in [
        "aio", "basic-io", "chown", "clock", "cpu-emulation", "debug", "default", "file-system", "io-event", "ipc",
        "keyring", "known", "memlock", "module", "mount", "network-io", "obsolete", "pkey", "privileged", "process",
        "raw-io", "reboot", "resources", "sandbox", "setuid", "signal", "swap", "sync", "system-service", "timer",
    ]
)  # fmt: skip
"""Groups of system calls, as `systemd-analyze syscall-filter` of systemd 257 lists them. One that a host has not is
left out there with a warning, or with none after a ~."""


_PART = r"[^\r\n:\0]*"
_END = r"(?<![\s\\])"
"""systemd takes space from the end of a line, and goes on to the next one from one that ends in a backslash."""


PARTS = re.compile(r"(?<!\\):")
"""What parts the paths of a bind or an overlay."""


def mapping(bind: str) -> str:
    """By which of its options a bind maps user ids (idmap, rootidmap, owneridmap), "" if by none."""
    options = PARTS.split(bind)[2:]
    return next((one for one in ",".join(options).split(",") if one.endswith("idmap") and one != "noidmap"), "")


def unmapped(bind: str) -> str:
    """The same bind, with the user ids as they are."""
    source, *rest = PARTS.split(bind)
    kept = [one for one in ",".join(rest[1:]).split(",") if one and one != mapping(bind)]
    return ":".join([source, *rest[:1], *([",".join(kept)] if kept else [])])


def _near(value: str, names: Iterable[str], otherwise: str) -> str:
    from difflib import get_close_matches  # slow to import, and seldom needed

    return next(iter(get_close_matches(value, names, 1, 0.4)), otherwise)


def _one_of(names: tuple[str, ...], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in names:
            raise refuse(f'{what} such as "{_near(value, names, names[0])}"', value)
        return value

    return AfterValidator(check)


def _signal(value: str) -> str:
    if value in signal.Signals.__members__ or re.fullmatch(
        r"SIGRTMIN(\+([12]?\d|30))?|SIGRTMAX(-([12]?\d|30))?", value
    ):
        return value
    raise refuse(f'a signal such as "{_near(value, signal.Signals.__members__, "SIGTERM")}"', value)


def _system_call(value: str) -> str:
    name = value.removeprefix("~")
    if name.startswith("@") and name not in SYSTEM_CALLS:
        raise refuse(f'a group of system calls such as "{_near(name, SYSTEM_CALLS, "@clock")}"', value)
    if not re.fullmatch(r"@[a-z-]+|[a-z_][a-z0-9_]*", name):
        raise refuse('a system call or group, such as "@clock"', value)
    return value


def _bind(value: str) -> str:
    options = {"rbind", "norbind", "idmap", "noidmap", "rootidmap", "owneridmap"}
    parts = PARTS.split(value)
    source, *rest = parts
    good = (source == "" or source.lstrip("+").startswith("/")) and len(parts) <= 3 and value
    good = good and (not rest or rest[0].startswith("/")) and (source != "" or bool(rest))
    good = good and (len(parts) < 3 or set(parts[2].split(",")) <= options)
    if not good or not re.fullmatch(rf"[^\r\n\0]*{_END}", value):
        raise refuse('a path as "/srv/www", "/srv/www:/var/www" or "/srv/www:/var/www:idmap"', value)
    return value


def _overlay(value: str) -> str:
    parts = PARTS.split(value)
    paths_good = all(
        part.lstrip("+").startswith("/") or (part == "" and n == len(parts) - 2) for n, part in enumerate(parts)
    )
    if len(parts) < 3 or not paths_good or not re.fullmatch(rf"[^\r\n\0]*{_END}", value):
        raise refuse('an overlay as "+/var:/srv/upper:/var" or "+/var::/var"', value)
    return value


def _port(value: str) -> str:
    found = re.fullmatch(r"((tcp|udp):)?(\d+)(:(\d+))?", value)
    if not found or not all(0 < int(number) < 65536 for number in (found[3], found[5]) if number):
        raise refuse('a port as "80", "8080:80" or "udp:53:53"', value)
    return value


Capability = Annotated[Text, _one_of((*CAPABILITIES, "all"), "a capability")]
LimitName = Annotated[Text, _one_of(LIMITS, "a limit")]
Limits = Annotated[dict[LimitName, Text], AfterValidator(limits)]
Signal = Annotated[Text, AfterValidator(_signal)]
Variable = Annotated[Text, matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a variable")]
SystemCall = Annotated[Text, AfterValidator(_system_call)]
InsidePath = Annotated[Text, matching(rf"/{_PART}{_END}", 'an absolute path such as "/srv/web"')]
PivotRoot = Annotated[
    Text, matching(rf"/{_PART}(:/{_PART})?{_END}", 'a directory as "/deploy", or "/deploy:/old" with the old root\'s')
]  # fmt: skip
Bind = Annotated[Text, AfterValidator(_bind)]
Overlay = Annotated[Text, AfterValidator(_overlay)]
TemporaryFileSystem = Annotated[
    Text, matching(rf"/{_PART}(:[^\r\n:\0]+)?{_END}", 'a path with options of tmpfs, such as "/tmp:size=64M"')
]  # fmt: skip
_INTERFACE = r"(?!\d+\Z)[A-Za-z0-9_.-]{1,15}"
InterfaceName = Annotated[Text, matching(_INTERFACE, 'the name of an interface, at most 15 letters, such as "br0"')]
InterfacePair = Annotated[
    Text, matching(rf"{_INTERFACE}(:{_INTERFACE})?", 'an interface as "eth0", or "eth0:lan" with its name inside')
]  # fmt: skip
ZoneName = Annotated[
    Text, matching(r"[A-Za-z0-9_.-]{1,12}", 'the name of a zone, at most 12 letters, such as "web"')
]  # fmt: skip
Port = Annotated[Text, AfterValidator(_port)]
