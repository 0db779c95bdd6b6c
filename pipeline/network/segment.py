"""The segment itself: one bridge (layer 2), with a router on it, and whoever else is attached.

The router gives out IPv4 addresses by DHCP, IPv6 prefixes by router advertisements, and answers for the names of those
who asked (dnsmasq). It leads nowhere: what a machine fetches from elsewhere does not reach it while it is verified.
All of it hangs on a unit that ends with the process that made it, however that ends.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any

from pipeline.command import BuildLog, output
from pipeline.errors import PlaceError

SEGMENT_UNIT = "goldspawn-segment-"
_CLEAR = Path(__file__).with_name("clear.sh")

ROUTER = IPv4Interface("198.18.0.1/24"), IPv6Interface("fd67:6f6c:6473::1/64")
"""The router's addresses: of the net for tests of networks (RFC 2544), and of a unique local prefix (RFC 4193)."""
_LEASES = "198.18.0.100,198.18.0.199"


@dataclass(frozen=True)
class Segment:
    """A segment that is there: `name` is its bridge's. `log` gets the commands."""

    name: str
    log: BuildLog

    def attach(self, name: str) -> str:
        """A network namespace on the segment, with one link `lan0`, up and without an address; returns its name."""
        space, link = f"{self.name}-{name}", f"{self.name}.{self._number()}"
        self._ip("netns", "add", space)
        self._ip("link", "add", link, "type", "veth", "peer", "name", "lan0", "netns", space)
        self._ip("link", "set", link, "master", self.name, "up")
        # Nobody else has these addresses: they are good at once.
        self.inside(space, "sysctl", "--quiet", "--write", "net.ipv6.conf.lan0.accept_dad=0")
        self.inside(space, "ip", "link", "set", "lo", "up")
        self.inside(space, "ip", "link", "set", "lan0", "up")
        return space

    def address(self, space: str, addresses: Sequence[IPv4Interface | IPv6Interface]) -> None:
        """Gives the link of a namespace fixed addresses."""
        for one in addresses:
            self.inside(space, "ip", "address", "add", str(one), "dev", "lan0")

    def port(self) -> str:
        """The name of a new link of the host that leads to the segment, for a machine that takes one of the host's."""
        number = self._number()
        link, far = f"{self.name}-{number}", f"{self.name}.{number}"
        self._ip("link", "add", link, "type", "veth", "peer", "name", far)
        self._ip("link", "set", far, "master", self.name, "up")
        self._ip("link", "set", link, "up")
        return link

    def ports(self) -> list[str]:
        """The links that are attached to the bridge, the machine's (vb-…) among them."""
        found: list[dict[str, Any]] = json.loads(self._ip("-json", "link", "show", "master", self.name) or "[]")
        return [one["ifname"] for one in found if "ifname" in one]

    def _number(self) -> int:
        """The next number of a link of ours: those of machines come and go."""
        ours = [one.rpartition(".")[2] for one in self.ports() if one.startswith(f"{self.name}.")]
        return 1 + max(map(int, ours), default=-1)

    def inside(self, space: str, *argv: str) -> str:
        """Runs a command in a namespace of this segment; returns its output."""
        return self._ip("netns", "exec", space, *argv)

    def _ip(self, *words: str) -> str:
        return output(["ip", *words], log=self.log, timeout=60).stdout


@contextlib.contextmanager
def segment(leash: str, log: BuildLog, slowness: float = 1.0) -> Iterator[Segment]:
    """A segment with its router; gone after the block, or with the unit `leash` if this process is killed before.

    Raises `PlaceError` when the router does not start.
    """
    name = _free_name()
    unit = f"{SEGMENT_UNIT}{name}.service"
    _clear(name, unit, log, slowness)
    _unit(unit, log, {"BindsTo": leash, "After": leash, "ExecStopPost": f"/bin/sh {_clearing()} {name}"},
          ["tail", "-f", "/dev/null"])  # fmt: skip
    try:
        made = Segment(name, log)
        made._ip("link", "add", name, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        made._ip("link", "set", name, "addrgenmode", "none", "up")
        router = made.attach("router")
        made.address(router, ROUTER)
        _serve(router, unit, log)
        yield made
    finally:
        _clear(name, unit, log, slowness)


def _free_name() -> str:
    """A name by the process; a second segment of it, beside one that is still there, has a number as well."""
    first = f"gs{os.getpid()}"
    names = itertools.chain([first], (f"{first}x{number}" for number in itertools.count(2)))
    return next(name for name in names if not Path("/sys/class/net", name).exists())


def _serve(router: str, unit: str, log: BuildLog) -> None:
    """Starts the router's server of addresses and names."""
    prefix = ROUTER[1].network.network_address
    argv = [
        "ip", "netns", "exec", router, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=",
        "--no-resolv", "--no-hosts", "--leasefile-ro", "--user=root", "--group=root", "--interface=lan0",
        "--bind-interfaces", "--dhcp-authoritative", "--no-ping", f"--dhcp-range={_LEASES},1h", "--enable-ra",
        f"--dhcp-range={prefix},ra-stateless,ra-names,64,1h", f"--host-record=router,{ROUTER[0].ip},{ROUTER[1].ip}",
    ]  # fmt: skip
    server = unit.replace(SEGMENT_UNIT, f"{SEGMENT_UNIT}router-")
    _unit(server, log, {"BindsTo": unit, "After": unit}, argv)
    if output(["systemctl", "is-active", server], check=False).stdout.strip() != "active":
        said = output(["journalctl", "--quiet", "--no-pager", "--output=cat", f"--unit={server}"], check=False).stdout
        raise PlaceError(f"the router of the network segment does not run: {said.strip()}")


def _unit(unit: str, log: BuildLog, properties: dict[str, str], argv: Sequence[str]) -> None:
    told = [f"--property={key}={value}" for key, value in {"Type": "exec", "KillMode": "mixed", **properties}.items()]
    output(["systemd-run", "--quiet", "--collect", f"--unit={unit}", *told, "--", *argv], log=log)


def _clear(name: str, unit: str, log: BuildLog, slowness: float) -> None:
    """Ends a segment, whatever of it there is."""
    output(["systemctl", "stop", unit], log=log, check=False, timeout=60 * slowness)
    output(["/bin/sh", str(_CLEAR), name], log=log, timeout=60 * slowness)


def _clearing() -> str:
    """Where the script that clears lies, on a file system that does not go away with the session."""
    at = Path("/run/goldspawn/clear-segment.sh")
    at.parent.mkdir(parents=True, exist_ok=True)
    partial = at.with_name(f"{at.name}.{os.getpid()}")
    partial.write_bytes(_CLEAR.read_bytes())
    partial.replace(at)
    return str(at)
