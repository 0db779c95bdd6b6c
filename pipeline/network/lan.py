"""The bridge by which machines stand on a host's LAN, as files for systemd-networkd.

As its users have it: the bridge is a switch and has no address; the host itself stands on it with a MACVLAN, beside its
machines. See systemd.netdev(5) and systemd.network(5).
"""

from __future__ import annotations

from collections.abc import Sequence


def files(bridge: str, uplink: str, own: str = "main", addresses: Sequence[str] = ()) -> dict[str, str]:
    """The files for /etc/systemd/network by their names.

    `uplink` is the interface that leads to the LAN, `own` the host's link on the bridge, with `addresses`
    (address/prefix), or asking by DHCP and router advertisements where there are none.
    """
    asked = [f"Address={one}" for one in addresses] or ["DHCP=yes"]
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
        f"21-{own}.network": _text(Match=[f"Name={own}"], Network=asked),
    }


def _text(**sections: list[str]) -> str:
    return "\n".join("\n".join([f"[{name}]", *lines, ""]) for name, lines in sections.items())
