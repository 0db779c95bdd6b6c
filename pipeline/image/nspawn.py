"""`[nspawn]` of image.toml: systemd.nspawn(5), section by section, each key as the directive that it becomes.

What `[boot]` says (private users, open files) stands there alone. Left out, with what was seen of systemd 257:

- `Hostname=`: /etc/hostname, which the profile writes, goes before it.
- `MachineID=`: each machine makes one of its own at its first boot; one that ships would be the same on all hosts.
- `WorkingDirectory=`: that of PID 1, which hands it to nothing; units have theirs.
- `AmbientCapability=`: systemd-nspawn refuses it for what boots.
- `ProcessTwo=`, `Boot=no`, `User=`: these machines boot, and their PID 1 is root's.
- `Ephemeral=`: without btrfs it copies the whole tree at each start; `volatile` forgets as well.
- `PrivateUsersChown=`: the old name of `PrivateUsersOwnership=chown`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from pipeline.bootstrap.method import STRICT
from pipeline.bootstrap.values import Text, matching, unique
from pipeline.image.containers import (
    Bind,
    Capability,
    InsidePath,
    InterfaceName,
    InterfacePair,
    Limits,
    Overlay,
    PivotRoot,
    Port,
    Signal,
    SystemCall,
    TemporaryFileSystem,
    Variable,
    ZoneName,
)
from pipeline.image.directives import Directive
from pipeline.image.values import AccountName

Line = Annotated[Text, matching(r"[^\r\n\0]*", "text of one line")]


@dataclass(frozen=True, config=STRICT)
class Exec:
    """How the machine's processes run."""

    notify_ready: Annotated[
        bool, Field(strict=True, description="Whether the host calls it started when its own PID 1 says so.")
    ] = True  # fmt: skip
    parameters: Annotated[
        tuple[Line, ...],
        Directive(together=True, quoted=True),
        Field(description="Arguments of the machine's PID 1.", examples=[["systemd.unit=rescue.target"]]),
    ] = ()
    environment: Annotated[
        dict[Variable, Line], Directive(quoted=True), Field(description="Environment of the machine's PID 1.")
    ] = Field(default_factory=dict)  # fmt: skip
    capability: Annotated[
        tuple[Capability, ...],
        Directive(together=True),
        unique("capability"),
        Field(description="Capabilities beside nspawn's own choice."),
    ] = ()
    drop_capability: Annotated[
        tuple[Capability, ...],
        Directive(together=True),
        unique("capability"),
        Field(description="Capabilities of that choice that it lacks."),
    ] = ()
    no_new_privileges: Annotated[
        bool, Field(strict=True, description="Whether nothing inside can gain privileges by setuid or file capability.")
    ] = False
    kill_signal: Annotated[
        Signal | None, Field(description="Signal that asks PID 1 to power off. Default: SIGRTMIN+3.")
    ] = None  # fmt: skip
    personality: Annotated[
        Literal["x86", "x86-64", "arm", "arm64"] | None, Field(description="Architecture that uname(2) tells.")
    ] = None  # fmt: skip
    pivot_root: Annotated[
        PivotRoot | None, Field(description="Directory inside that becomes the root; new:old also has the old one.")
    ] = None  # fmt: skip
    system_call_filter: Annotated[
        tuple[SystemCall, ...],
        Directive(denying=True),
        unique("system call", lambda one: one.removeprefix("~")),
        Field(
            description="System calls and groups of them beside nspawn's list; with ~ before it, without it.",
            examples=[["@memlock", "~mincore"]],
        ),
    ] = ()
    limits: Annotated[
        Limits,
        Directive("Limit", keyed=True),
        Field(
            description="Resource limits (setrlimit(2)), one value, or soft:hard: as, core, data, fsize, memlock, "
            "msgqueue, rss and stack in bytes, cpu and rttime as times, locks, nice, nproc, rtprio and sigpending as "
            "numbers. For open files see `boot.nofile`.",
            examples=[{"core": "0", "nproc": "512:1024", "cpu": "1h"}],
        ),
    ] = Field(default_factory=dict)
    oom_score_adjust: Annotated[
        int | None,
        Directive("OOMScoreAdjust"),
        Field(strict=True, ge=-1000, le=1000, description="How soon it is killed when memory runs out."),
    ] = None
    cpu_affinity: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=0, le=8191)], ...],
        Directive("CPUAffinity", together=True),
        unique("processor"),
        Field(description="Numbers of the processors on which it runs."),
    ] = ()
    resolv_conf: Annotated[
        Literal["off", "copy-host", "copy-static", "copy-uplink", "copy-stub", "replace-host", "replace-static",
                "replace-uplink", "replace-stub", "bind-host", "bind-static", "bind-uplink", "bind-stub", "delete",
                "auto"],
        Field(description="What becomes of /etc/resolv.conf (--resolv-conf)."),
    ] = "off"  # fmt: skip
    timezone: Annotated[
        Literal["off", "copy", "bind", "symlink", "delete", "auto"],
        Field(description="What becomes of the time zone: off is that of the profile, others take the host's."),
    ] = "off"
    link_journal: Annotated[
        Literal["no", "host", "try-host", "guest", "try-guest", "auto"] | None,
        Field(description="Whether the host sees its journal. Default: that of systemd-nspawn@.service."),
    ] = None
    suppress_sync: Annotated[
        bool | None, Field(strict=True, description="Whether sync() and fsync() do nothing. Default: no.")
    ] = None  # fmt: skip


@dataclass(frozen=True, config=STRICT)
class Files:
    """What the machine sees of the host's files, and what of its own it may write."""

    read_only: Annotated[bool, Field(strict=True, description="Whether its root is read-only.")] = False
    volatile: Annotated[
        Literal["no", "yes", "state", "overlay"],
        Field(
            description="What is forgotten when it stops: yes, all but /usr; state, all of /var; overlay, all changes."
        ),
    ] = "no"
    bind: Annotated[
        tuple[Bind, ...],
        unique("bind"),
        Field(description="Paths of the host that it sees: path, or path:where, or path:where:options."),
    ] = ()
    bind_read_only: Annotated[
        tuple[Bind, ...], unique("bind"), Field(description="The same, without the right to write.")
    ] = ()  # fmt: skip
    bind_user: Annotated[
        tuple[AccountName, ...],
        unique("user"),
        Field(description="Users of the host, with their homes."),
    ] = ()
    temporary_file_system: Annotated[
        tuple[TemporaryFileSystem, ...],
        unique("path"),
        Field(description="Where an empty tmpfs is: path, or path:options.", examples=[["/tmp:size=64M"]]),
    ] = ()
    inaccessible: Annotated[
        tuple[InsidePath, ...], unique("path"), Field(description="Paths over which nothing can be seen.")
    ] = ()  # fmt: skip
    overlay: Annotated[
        tuple[Overlay, ...], Field(description="lower:…:upper:where; +path is inside, an empty upper is thrown away.")
    ] = ()  # fmt: skip
    overlay_read_only: Annotated[
        tuple[Overlay, ...], Field(description="The same, all of it read-only.")
    ] = ()  # fmt: skip
    private_users_ownership: Annotated[
        Literal["off", "map", "auto", "chown"] | None,
        Field(
            description="How files become its users'. Default: auto, which maps them; chown would change the dataset."
        ),
    ] = None


@dataclass(frozen=True, config=STRICT)
class Network:
    """The machine's links. Default: one of its own (virtual Ethernet), which the host sees as ve-NAME."""

    private: Annotated[
        bool, Field(strict=True, description="Whether it has a network of its own; without, it has the host's.")
    ] = True
    virtual_ethernet: Annotated[
        bool | None,
        Field(strict=True, description="Whether there is a virtual link host0. Default: with `bridge` and `zone`, and "
              "where nothing else is said."),
    ] = None  # fmt: skip
    bridge: Annotated[
        InterfaceName | None, Field(description="Bridge of the host to which host0 is attached.", examples=["br0"])
    ] = None
    zone: Annotated[
        ZoneName | None, Field(description="Zone: a bridge that comes with its first machine and goes with its last.")
    ] = None
    virtual_ethernet_extra: Annotated[
        tuple[InterfacePair, ...], unique("link"), Field(description="Further virtual links: host or host:machine.")
    ] = ()
    macvlan: Annotated[
        tuple[InterfacePair, ...],
        Directive("MACVLAN"),
        unique("interface"),
        Field(description="Interfaces of the host of which it gets a MACVLAN, mv-NAME inside."),
    ] = ()
    ipvlan: Annotated[
        tuple[InterfacePair, ...],
        Directive("IPVLAN"),
        unique("interface"),
        Field(description="Interfaces of the host of which it gets an IPVLAN, iv-NAME inside."),
    ] = ()
    interface: Annotated[
        tuple[InterfacePair, ...],
        unique("interface"),
        Field(description="Interfaces of the host that are the machine's while it runs."),
    ] = ()
    port: Annotated[
        tuple[Port, ...],
        unique("port"),
        Field(description="Ports of the host that are the machine's: tcp:HOST:MACHINE, without NAT on the segment."),
    ] = ()

    @property
    def ethernet(self) -> bool:
        """Whether there is a virtual link host0."""
        if self.virtual_ethernet is not None:
            return self.virtual_ethernet
        others = self.macvlan or self.ipvlan or self.interface or self.virtual_ethernet_extra
        return self.private and bool(self.bridge or self.zone or not others)

    @model_validator(mode="after")
    def _possible(self) -> Network:
        named = {name: getattr(self, name) for name in ("bridge", "zone", "virtual_ethernet_extra", "macvlan",
                 "ipvlan", "interface", "port")}  # fmt: skip
        given = [name for name, value in named.items() if value]
        if not self.private and (given or self.virtual_ethernet):
            values = {"one": (given or ["virtual_ethernet"])[0]}
            raise PydanticCustomError(
                "goldspawn", "`{one}` is for a machine with a network of its own, and `private` is false", values
            )
        if self.bridge and self.zone:
            raise PydanticCustomError("goldspawn", "`bridge` and `zone` exclude each other")
        if self.virtual_ethernet is False and (self.bridge or self.zone or self.port):
            values = {"one": "bridge" if self.bridge else "zone" if self.zone else "port"}
            raise PydanticCustomError(
                "goldspawn", "`{one}` needs the link host0, and `virtual_ethernet` is false", values
            )
        return self


@dataclass(frozen=True, config=STRICT)
class Nspawn:
    """The machine's .nspawn file (systemd.nspawn(5)): it ships beside the stream, and the verified machine obeys it."""

    exec: Annotated[Exec, Field(description="How its processes run.")] = Field(default_factory=Exec)
    files: Annotated[Files, Field(description="Its view of files.")] = Field(default_factory=Files)
    network: Annotated[Network, Field(description="Its links.")] = Field(default_factory=Network)
