"""The bridge by which machines stand on a host's LAN, as files for systemd-networkd.

As its users have it: the bridge is a switch and has no address; the host itself stands on it with a MACVLAN, beside its
machines. See systemd.netdev(5) and systemd.network(5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address

from pipeline.errors import InputError
from pipeline.network.interface import interface


@dataclass(frozen=True)
class Fixed:
    """The fixed addresses of a host (address/prefix), its gateways, and its name servers. Raises `InputError` for what
    is none, and for a gateway that no address reaches.
    """

    addresses: Sequence[str]
    gateways: Sequence[str] = ()
    servers: Sequence[str] = ()

    def __post_init__(self) -> None:
        nets = [_interface(one).network for one in self.addresses]
        for kind, texts in (("gateway", self.gateways), ("dns", self.servers)):
            for text in texts:
                try:
                    address = ip_address(text)
                except ValueError as error:
                    raise InputError(f'{kind}: expected an address such as "192.168.1.1", got "{text}"') from error
                if kind == "gateway" and not address.is_link_local and not any(address in net for net in nets):
                    told = ", ".join(map(str, nets))
                    raise InputError(f"gateway: {text} is not in the net of an address ({told}), and cannot be reached")

    @property
    def lines(self) -> list[str]:
        """What `[Network]` says of them."""
        named = (("Address", self.addresses), ("Gateway", self.gateways), ("DNS", self.servers))
        return [f"{key}={value}" for key, values in named for value in values]


def _interface(text: str) -> IPv4Interface | IPv6Interface:
    if (found := interface(text)) is not None:
        return found
    raise InputError(f'address: expected an address with its prefix such as "192.168.1.2/24", got "{text}"')


def files(bridge: str, uplink: str, own: str = "main", fixed: Fixed | None = None) -> dict[str, str]:
    """The files for /etc/systemd/network by their names.

    `uplink` is the interface that leads to the LAN, `own` the host's link on the bridge, with what is `fixed`, or
    asking by DHCP and router advertisements where nothing is.
    """
    return {
        f"20-{bridge}.netdev": _text(NetDev=[f"Name={bridge}", "Kind=bridge"], Bridge=["STP=no"]),
        f"20-{bridge}-uplink.network": _text(Match=[f"Name={uplink}"], Network=[f"Bridge={bridge}"]),
        f"20-{bridge}.network": _text(
            Match=[f"Name={bridge}"],
            # Without an address: what comes for the host comes to its own link.
            Network=[f"MACVLAN={own}", "LinkLocalAddressing=no", "IPv6AcceptRA=no", "DHCP=no"],
            Link=["RequiredForOnline=no"],
        ),
        f"21-{own}.netdev": _text(NetDev=[f"Name={own}", "Kind=macvlan"], MACVLAN=["Mode=bridge"]),
        f"21-{own}.network": _text(Match=[f"Name={own}"], Network=fixed.lines if fixed is not None else ["DHCP=yes"]),
    }


def _text(**sections: list[str]) -> str:
    return "\n".join("\n".join([f"[{name}]", *lines, ""]) for name, lines in sections.items())
