"""Another host on the segment: a network namespace with an address of its own, as a pytest-testinfra `Host`."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from pipeline.errors import InputError
from pipeline.network.interface import interface
from pipeline.network.segment import ROUTER, Segment

_NAME = "peer"


class NamespaceBackend(BaseBackend):  # type: ignore[misc,unused-ignore]
    """Runs commands of the build's host in a network namespace."""

    NAME = "netns"

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.name = name
        super().__init__(name, *args, **kwargs)

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        return self.run_local(
            "ip netns exec %s /bin/sh -c %s", self.name, self.get_command(command, *args)
        )  # fmt: skip


def peer(segment: Segment, number: int = 2, addresses: Sequence[str] = ()) -> Host:
    """Another host on the segment, with the addresses 198.18.0.NUMBER and fd67:6f6c:6473::NUMBER.

    It asks the router for names. `number` is 2 to 99, each once. `addresses` ("192.168.7.9/24") are further ones, of
    the nets of machines whose own are fixed. Raises `InputError` for what is no address with its prefix.
    """
    further = [_interface(one) for one in addresses]
    space = segment.attach(f"{_NAME}{number}")
    four, six = (one.network for one in ROUTER)
    own = IPv4Interface(f"{four[number]}/24"), IPv6Interface(f"{six[number]}/64")
    segment.address(space, (*own, *further))
    # ip-netns(8) shows this to what runs in the namespace.
    resolver = Path("/etc/netns", space, "resolv.conf")
    resolver.parent.mkdir(parents=True, exist_ok=True)
    resolver.write_text(f"nameserver {ROUTER[0].ip}\n")
    return Host(NamespaceBackend(space))


def another(segment: Segment, addresses: Sequence[str] = ()) -> Host:
    """As `peer`, with the next number that nobody on the segment has."""
    start = f"{segment.name}-{_NAME}"
    taken = [int(one.name.removeprefix(start)) for one in Path("/run/netns").glob(f"{start}*")]
    return peer(segment, 1 + max(taken, default=2), addresses)  # 2 is the one that every test may ask for


def _interface(text: str) -> IPv4Interface | IPv6Interface:
    if (found := interface(text)) is not None:
        return found
    raise InputError(f'"{text}" is no address of a peer: an address with its prefix, such as "192.168.7.9/24"')
