"""Another host on the segment: a network namespace with an address of its own, as a pytest-testinfra `Host`."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from pipeline.network.segment import ROUTER, Segment


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


def peer(segment: Segment, number: int = 2) -> Host:
    """Another host on the segment, with the addresses 198.18.0.NUMBER and fd67:6f6c:6473::NUMBER.

    It asks the router for names. `number` is 2 to 99, each once.
    """
    name = f"peer{number}"
    space = segment.attach(name)
    four, six = (one.network for one in ROUTER)
    segment.address(space, (IPv4Interface(f"{four[number]}/24"), IPv6Interface(f"{six[number]}/64")))
    # ip-netns(8) shows this to what runs in the namespace.
    resolver = Path("/etc/netns", space, "resolv.conf")
    resolver.parent.mkdir(parents=True, exist_ok=True)
    resolver.write_text(f"nameserver {ROUTER[0].ip}\n")
    return Host(NamespaceBackend(space))
