"""What a host is told of a machine: its .nspawn file (systemd.nspawn(5)) and a drop-in of systemd-nspawn@.service.

`shipped` is what goes beside the stream. `verified` is what the machine runs with while it is verified: the same, but
for what a test place has not, or must not touch; each such difference is told.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.image import Boot, Image, credentials
from pipeline.image.containers import PARTS, mapping
from pipeline.image.directives import lines
from pipeline.image.private_users import own_range
from pipeline.image.service import processors
from pipeline.network import Segment

Lines = tuple[tuple[str, str], ...]
"""Directives and their values, in order."""

_COMMAND = (
    "systemd-nspawn --quiet --keep-unit --boot --link-journal=try-guest --network-veth -U --settings=override "
    "--machine=%i"
)
"""What systemd-nspawn@.service runs (systemd 252 to 257)."""


_MACHINED = "org.freedesktop.machine1 /org/freedesktop/machine1 org.freedesktop.machine1.Manager"

_KILLED = (
    """-sh -c 'case "$$EXIT_CODE" in killed|dumped) umount --quiet /run/systemd/nspawn/unix-export/%i; """
    f"busctl --quiet call {_MACHINED} UnregisterMachine s %i;; esac'"
)
"""What a systemd-nspawn would do at its end, for one that is killed: for want of memory, or when a stop takes too long.

With its mount still there another one refuses to start, and while the unit waits to be started again systemd-machined
holds the name for taken (systemd 257).
"""


@dataclass(frozen=True)
class Settings:
    """The sections of a .nspawn file, the unit's directives, and the credentials that it passes on.

    Of each of these, by its name, the file's name in a host's /etc/credstore (systemd.exec(5), LoadCredential=);
    `literals` are those that ship, by their names. `unlike` says what is not as it ships, and why. `written` are those
    of [Files] by which the machine may write to directories of the host.
    """

    sections: Mapping[str, Lines] = field(default_factory=dict)
    service: Lines = ()
    credentials: Mapping[str, str] = field(default_factory=dict)
    literals: Mapping[str, str] = field(default_factory=dict)
    unlike: tuple[str, ...] = ()
    written: Lines = ()

    @property
    def nspawn(self) -> str:
        """The text of the .nspawn file, without comments."""
        return "\n".join(
            "\n".join([f"[{name}]", *(f"{key}={value}" for key, value in rows), ""])
            for name, rows in self.sections.items()
            if rows
        )

    @property
    def directives(self) -> Lines:
        """The unit's directives, and what waits for links to come back from a machine that starts again.

        systemd-nspawn refuses a link that udev has not looked at yet, and that is so for half a second from the end of
        the machine that had it: a reboot of the machine is faster.
        """
        takes = any(key == "Interface" for key, _ in self.sections.get("Network", ()))
        return (*self.service, ("ExecStartPre", "-udevadm settle --timeout=30")) if takes else self.service

    @property
    def options(self) -> list[str]:
        """The options of systemd-nspawn for which a .nspawn file has no directive, but for what comes from files."""
        return [credentials.option(name, value) for name, value in self.literals.items()]

    @property
    def drop_in(self) -> str:
        """The text of the drop-in, "" if nothing stands in it.

        systemd-nspawn passes those credentials of its unit on that it is told of, and the unit's command is the only
        place for that (systemd-nspawn(1), --load-credential).
        """
        rows = [*self.directives]
        if rows or self.credentials or self.options:
            rows.append(("ExecStopPost", _KILLED))
        rows += [("LoadCredential", f"{name}:{file}") for name, file in self.credentials.items()]
        passed = [f"--load-credential={name}:{name}" for name in self.credentials]
        passed += [credentials.in_unit_file(option) for option in self.options]
        if passed:
            rows += [("ExecStart", ""), ("ExecStart", " ".join([_COMMAND, *passed]))]
        return "\n".join(["[Service]", *(f"{key}={value}" for key, value in rows), ""]) if rows else ""


def shipped(image: Image) -> Settings:
    """The settings of an image, as they ship."""
    boot, given = image.boot, image.nspawn
    users, mapped = boot.private_users, own_range(boot.private_users)
    first = [("Boot", "yes"), ("PrivateUsers", users if isinstance(users, str) else "pick" if users else "no")]
    if boot.nofile is not None:
        first.append(("LimitNOFILE", str(boot.nofile)))
    files = list(lines(given.files))
    if mapped and given.files.private_users_ownership is None:
        files.insert(0, ("PrivateUsersOwnership", "auto"))
    for path, writable in image.bootstrap.shared.items():
        # With users of its own a machine would see these files as nobody's, but for a mount that maps them.
        files.append((f"Bind{'' if writable else 'ReadOnly'}", f"{path}:{path}:idmap" if mapped else f"{path}"))
    network = [row for row in lines(given.network) if row[0] not in ("Private", "VirtualEthernet")]
    own = [("Private", "yes" if given.network.private else "no")]
    if given.network.private:
        own.append(("VirtualEthernet", "yes" if given.network.ethernet else "no"))
    sections = {"Exec": (*first, *lines(given.exec)), "Network": (*own, *network), "Files": tuple(files)}
    stored = {name: f"{image.name}.{name}" for name in image.secrets_for("credential")}
    return Settings(sections, (*_limits(boot), *lines(image.service)), stored, boot.credentials)


def _limits(boot: Boot) -> Iterator[tuple[str, str]]:
    """The unit's properties (systemd.resource-control(5)) for what `[boot]` of image.toml says."""
    if boot.memory_max is not None:
        yield "MemoryMax", str(boot.memory_max)
    if boot.tasks_max is not None:
        yield "TasksMax", str(boot.tasks_max)
    if boot.cpu_quota is not None:
        yield "CPUQuota", f"{boot.cpu_quota}%"


def verified(image: Image, segment: Segment | None = None) -> Settings:
    """The settings under which a machine made of the image is verified here, on a segment or without a link."""
    return _verified(image, segment.name, segment.port) if segment is not None else _verified(image)


def differences(image: Image) -> tuple[str, ...]:
    """How the settings of a machine that is verified on a segment differ from those that ship, and why."""
    return _verified(image, "segment", lambda: "link").unlike


def _verified(image: Image, bridge: str | None = None, port: Callable[[], str] = str) -> Settings:
    """`port` makes a link of the host that leads to the bridge, and returns its name."""
    ships = shipped(image)
    unlike: list[str] = []
    written: list[tuple[str, str]] = []
    sections = {
        "Exec": tuple(_exec(ships.sections["Exec"], unlike)),
        "Network": tuple(_network(ships.sections["Network"], bridge, port, unlike)),
        "Files": tuple(_files(ships.sections["Files"], unlike, written)),
    }
    if image.boot.private_users is True and any(mapping(value) for _, value in written):
        unlike.append("PrivateUsers=pick: a range that the run picks, which owns what is written")
    service = tuple(_service(ships.service, unlike))
    return replace(ships, sections=sections, service=service, unlike=tuple(unlike), written=tuple(written))


def _exec(rows: Lines, unlike: list[str]) -> Iterator[tuple[str, str]]:
    for key, value in rows:
        if key == "CPUAffinity" and not set(map(int, value.split())) <= os.sched_getaffinity(0):
            unlike.append(f"{key}={value}: {_NO_PROCESSORS}")
        elif key == "LinkJournal" and value != "no":
            unlike.append(f"{key}={value}: its journal is thrown away with it")
        elif key != "LinkJournal":
            yield key, value
    # Of what is thrown away the host keeps no journal, and nothing has to be on the disk.
    yield "LinkJournal", "no"
    if "SuppressSync" not in dict(rows):
        yield "SuppressSync", "yes"


_NO_PROCESSORS = "this place has not these processors"

_HOSTS_LINKS = {"MACVLAN": "mv-", "IPVLAN": "iv-", "Interface": "", "VirtualEthernetExtra": ""}
"""Directives that name links of the host, and how the machine's link begins that comes of one."""


def _network(rows: Lines, bridge: str | None, port: Callable[[], str], unlike: list[str]) -> Iterator[tuple[str, str]]:
    """The machine's links: as they ship, but each ends on the segment and on nothing of the host's."""
    yield "Private", "yes"
    given = dict(rows)
    if bridge is None or given["Private"] == "no":
        told = ", ".join(f"{key}={value}" for key, value in rows if key != "Private" or value == "no")
        unlike.append(f"{told}: verified without a link")
        return
    if given["VirtualEthernet"] == "yes":
        yield from (("VirtualEthernet", "yes"), ("Bridge", bridge))
    for key, value in rows:
        if key == "Port":
            unlike.append(f"{key}={value}: left out, the ports of this host are its own")
            continue
        if key in _HOSTS_LINKS:
            link, _, name = value.partition(":")
            yield (
                ("Interface" if key == "VirtualEthernetExtra" else key),
                f"{port()}:{name or _HOSTS_LINKS[key] + link}",
            )
        if key not in ("Private", "VirtualEthernet"):
            unlike.append(f"{key}={value}: on the build's own segment")


def _files(rows: Lines, unlike: list[str], written: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for key, value in rows:
        if key in ("Bind", "BindReadOnly", "Overlay", "OverlayReadOnly"):
            yield from _shared(key, value, unlike, written)
        elif key == "BindUser" and not _has_user(value):
            unlike.append(f"{key}={value}: there is no such user here")
        else:
            yield key, value


def _shared(key: str, value: str, unlike: list[str], written: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """What is shared with the host: left out where that has it not, and never written to."""
    parts = PARTS.split(value)
    below = parts[:-1] if key.startswith("Overlay") else parts[:1]
    outside = [plain(part) for part in below if part and not part.startswith("+")]
    upper = plain(parts[0] if key == "Bind" else parts[-2] if key == "Overlay" else "")
    if missing := [path for path in outside if not Path(path).exists()]:
        unlike.append(f"{key}={value}: there is no {missing[0]} here")
    elif not upper or upper.startswith("+"):
        yield key, value
    elif Path(upper).is_dir():
        unlike.append(f"{key}={value}: what is written there is thrown away")
        written.append((key, value))
        yield key, value
    else:
        unlike.append(f"{key}={value}: read-only")
        yield "BindReadOnly", value


def plain(part: str) -> str:
    """A path of a bind or an overlay without what escapes its colons."""
    return part.replace("\\:", ":")


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


_OF_THE_HOST = {
    "Restart": "it is not started again by itself while it is verified",
    "RestartSec": "it is not started again by itself while it is verified",
    "TimeoutStopSec": "the run has a limit of its own",
    "Slice": "it is in machine.slice",
}
"""Directives that a run sets itself, with what is told of that."""


def _service(rows: Lines, unlike: list[str]) -> Iterator[tuple[str, str]]:
    for key, value in rows:
        if key in _OF_THE_HOST:
            unlike.append(f"{key}={value}: {_OF_THE_HOST[key]}")
        elif key == "AllowedCPUs" and not processors(value) <= os.sched_getaffinity(0):
            unlike.append(f"{key}={value}: {_NO_PROCESSORS}")
        elif key == "AllowedCPUs" and not cpusets():
            unlike.append(f"{key}={value}: the kernel of this place has no cpusets")
        else:
            yield key, value


def cpusets() -> bool:
    """Whether this place can hold units to some of its processors: the appliance under TCG cannot."""
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    return controllers.exists() and "cpuset" in controllers.read_text().split()


def files(image: Image) -> Sequence[tuple[str, str]]:
    """The files that ship beside the stream: names and texts. The drop-in is there where something stands in it."""
    ships = shipped(image)
    about = f"# {image.name}: {image.description}".rstrip(": ")
    made = [(f"{image.name}.nspawn", f"{about}\n# Install as /etc/systemd/nspawn/{image.name}.nspawn\n{ships.nspawn}")]
    if ships.drop_in:
        where = f"/etc/systemd/system/systemd-nspawn@{image.name}.service.d/goldspawn.conf"
        made.append((f"{image.name}.conf", f"{about}\n# Install as {where}\n{ships.drop_in}"))
    return made
