"""An address with its prefix, as users write it."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_interface


def interface(text: str) -> IPv4Interface | IPv6Interface | None:
    """The address and prefix of a text such as "192.168.1.2/24" or "fd00::2/64"; None for any other."""
    try:
        return ip_interface(text) if "/" in text else None
    except ValueError:
        return None
