"""`[service]` of image.toml: what a drop-in of systemd-nspawn@NAME.service says on the host.

Resources (systemd.resource-control(5)) and what the host does when the machine ends (systemd.service(5)). Most memory,
processes and processor time stand in `[boot]`, and nowhere else.
"""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from pipeline.bootstrap.method import STRICT
from pipeline.bootstrap.values import Text, matching, refuse, unique
from pipeline.image.directives import Directive
from pipeline.image.values import Size

Weight = Annotated[int, Field(strict=True, ge=1, le=10000)]
Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


def _address(value: str) -> str:
    try:
        if value not in ("any", "localhost", "link-local", "multicast"):
            address, _, prefix = value.partition("/")
            ip_network(f"{ip_address(address)}/{int(prefix)}" if prefix else address, strict=False)
    except ValueError:
        raise refuse('addresses such as "10.0.0.0/8" or "any"', value) from None
    return value


def processors(value: str) -> frozenset[int]:
    """The numbers that a list of processors such as "0-3 5" names. Raises `ValueError` for one that is none."""
    found: set[int] = set()
    for part in re.split(r"[ ,]+", value):
        if not re.fullmatch(r"[0-9]{1,4}(-[0-9]{1,4})?", part):
            raise ValueError(part)
        first, _, last = part.partition("-")
        found.update(several := range(int(first), int(last or first) + 1))
        if not several:
            raise ValueError(part)
    return frozenset(found)


def _processors(value: str) -> str:
    try:
        processors(value)
    except ValueError:
        raise refuse('processors such as "0-3" or "0 2"', value) from None
    return value


Address = Annotated[Text, AfterValidator(_address)]
Device = Annotated[
    Text,
    matching(r"(/dev/[^\s]+|(char|block)-[^\s]+)( r?w?m?)?", 'a device such as "/dev/fuse rwm"'),
]
Processors = Annotated[Text, AfterValidator(_processors)]
Slice = Annotated[Text, matching(r"[A-Za-z0-9:_.\\-]+\.slice", 'the name of a slice, such as "web.slice"')]

_MADE = ("null", "zero", "full", "random", "urandom", "tty", "ptmx")
"""What systemd-nspawn makes in each machine's /dev, or needs for its console: without one it does not start (257)."""


@dataclass(frozen=True, config=STRICT)
class Service:
    """The unit of the machine on a host: a drop-in for systemd-nspawn@NAME.service ships where one of these is set."""

    memory_high: Annotated[
        Size | None, Field(description="Memory above which it is slowed down.", examples=["400M"])
    ] = None  # fmt: skip
    memory_low: Annotated[Size | None, Field(description="Memory that others in its slice do not take from it.")] = None
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
        Field(
            description="Devices that it may use: strict is those of `device_allow` and of systemd-nspawn@.service; "
            "closed, and auto as well, /dev/null and its like beside these."
        ),
    ] = None
    device_allow: Annotated[
        tuple[Device, ...],
        unique("device"),
        Field(
            description="Devices that it may use, beside those of systemd-nspawn@.service.", examples=[["/dev/kvm rw"]]
        ),
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

    @model_validator(mode="after")
    def _possible(self) -> Service:
        named = [one.split()[0] for one in self.device_allow]
        lost = [f"/dev/{name}" for name in _MADE if f"/dev/{name}" not in named]
        # Which of them are in a group is the host's affair.
        if self.device_policy == "strict" and lost and not {"char-mem", "char-*"} & {*named}:
            values = {"one": ", ".join(lost)}
            raise PydanticCustomError(
                "goldspawn", '`device_policy = "strict"` needs in `device_allow` what each machine has: {one}', values
            )
        return self
