"""`[service]` of image.toml: what a drop-in of systemd-nspawn@NAME.service says on the host.

Resources (systemd.resource-control(5)) and what the host does when the machine ends (systemd.service(5)). Most memory,
processes and processor time stand in `[boot]`, and nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bootstrap.method import STRICT
from pipeline.bootstrap.values import Text, matching, unique
from pipeline.image.directives import Directive
from pipeline.image.values import Size

Weight = Annotated[int, Field(strict=True, ge=1, le=10000)]
Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Address = Annotated[
    Text,
    matching(r"[0-9a-fA-F.:]+(/\d+)?|any|localhost|link-local|multicast", 'addresses such as "10.0.0.0/8" or "any"'),
]
Device = Annotated[
    Text,
    matching(r"(/dev/[^\s]+|(char|block)-[^\s]+)( r?w?m?)?", 'a device such as "/dev/fuse rwm"'),
]
Processors = Annotated[Text, matching(r"\d+(-\d+)?([ ,]\d+(-\d+)?)*", 'processors such as "0-3" or "0 2"')]
Slice = Annotated[Text, matching(r"[A-Za-z0-9:_.\\-]+\.slice", 'the name of a slice, such as "web.slice"')]


@dataclass(frozen=True, config=STRICT)
class Service:
    """The unit of the machine on a host: a drop-in for systemd-nspawn@NAME.service ships where one of these is set."""

    memory_high: Annotated[
        Size | None, Field(description="Memory above which it is slowed down.", examples=["400M"])
    ] = None  # fmt: skip
    memory_low: Annotated[Size | None, Field(description="Memory that others do not take from it.")] = None
    memory_swap_max: Annotated[
        Size | Literal["0"] | None, Field(description='Most swap, "0" for none.')
    ] = None  # fmt: skip
    cpu_weight: Annotated[
        Weight | None, Directive("CPUWeight"), Field(description="Share of processors beside others; 100 is usual.")
    ] = None
    io_weight: Annotated[
        Weight | None, Directive("IOWeight"), Field(description="Share of disks beside others; 100 is usual.")
    ] = None
    allowed_cpus: Annotated[
        Processors | None, Directive("AllowedCPUs"), Field(description="Processors on which it may run.")
    ] = None
    device_policy: Annotated[
        Literal["auto", "closed", "strict"] | None,
        Field(description="Devices that it may use: closed is those of `device_allow` and /dev/null and its like."),
    ] = None
    device_allow: Annotated[
        tuple[Device, ...],
        unique("device"),
        Field(description="Devices that it may use.", examples=[["/dev/kvm rw"]]),
    ] = ()
    ip_address_allow: Annotated[
        tuple[Address, ...], Directive("IPAddressAllow"), unique("address"),
        Field(description="Addresses to which its unit may speak, whatever `ip_address_deny` says."),
    ] = ()  # fmt: skip
    ip_address_deny: Annotated[
        tuple[Address, ...], Directive("IPAddressDeny"), unique("address"),
        Field(description="Addresses to which its unit may not speak."),
    ] = ()  # fmt: skip
    restart: Annotated[
        Literal["no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"] | None,
        Field(description="When the host starts it again by itself."),
    ] = None
    restart_sec: Annotated[Seconds | None, Field(description="Seconds before that.")] = None
    timeout_stop_sec: Annotated[
        Seconds | None, Field(description="Seconds that it has to power off before it is killed.")
    ] = None  # fmt: skip
    oom_policy: Annotated[
        Literal["continue", "stop", "kill"] | None,
        Directive("OOMPolicy"),
        Field(description="What becomes of it when one of its processes is killed for memory."),
    ] = None
    slice: Annotated[Slice | None, Field(description="Slice in which it is. Default: machine.slice.")] = None
