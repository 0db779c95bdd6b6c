"""The machine's place on its segment: which addresses it has, and its link, cut or made bad to order."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from tenacity import RetryError, retry, retry_if_not_result, stop_after_delay, wait_fixed
from testinfra.host import Host

from pipeline.command import BuildLog, output
from pipeline.errors import CheckFailed
from pipeline.machine.unit import leader
from pipeline.network import Segment, another


@dataclass(frozen=True)
class Network:
    """How a machine called `name` stands on `segment`. `slowness` multiplies all time limits."""

    name: str
    segment: Segment
    log: BuildLog
    slowness: float = 1.0

    @property
    def addresses(self) -> list[IPv4Address | IPv6Address]:
        """The machine's addresses that others can use, as it is now: none of loopback, none of the link alone."""
        inside = ["nsenter", f"--target={leader(self.name)}", "--net"]
        argv = [*inside, "ip", "-json", "address", "show", "scope", "global"]
        links = json.loads(output(argv).stdout or "[]")
        told = [one for link in links for one in link.get("addr_info", ())]
        # What the scope leaves out is an empty entry.
        return [ip_address(one["local"]) for one in told if "local" in one and not one.get("tentative")]

    def address(self, version: int = 4, *, seconds: float = 30.0) -> str:
        """The machine's address of IP `version` 4 or 6; waits for it up to `seconds`, longer in slower places.

        Raises `CheckFailed` when it has none by then.
        """

        @retry(retry=retry_if_not_result(bool), wait=wait_fixed(0.2), stop=stop_after_delay(seconds * self.slowness))
        def ask() -> list[IPv4Address | IPv6Address]:
            return [one for one in self.addresses if one.version == version]

        try:
            return str(ask()[0])
        except RetryError as error:
            raise CheckFailed(
                f"the machine has no IPv{version} address after {seconds * self.slowness:.0f} s",
                hint="is systemd-networkd (or what else asks for one) enabled in [profile]?",
            ) from error

    def peer(self, *addresses: str) -> Host:
        """One more host on the segment; with `addresses` ("192.168.7.9/24"), it stands in these nets as well.

        A machine whose address is fixed is reached from its own net only. Raises `InputError` for a wrong address.
        """
        return another(self.segment, addresses)

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """The machine's link is down in the block."""
        link = self._link()
        self._run("ip", "link", "set", link, "down")
        try:
            yield
        finally:
            self._run("ip", "link", "set", link, "up")

    @contextlib.contextmanager
    def bad(self, *, loss: float = 0.0, delay: float = 0.0) -> Iterator[None]:
        """The machine's link loses `loss` percent of what is sent to it, and takes `delay` seconds longer."""
        link = self._link()
        spoilt = [*(["loss", f"{loss}%"] if loss else []), *(["delay", f"{delay * 1000:.0f}ms"] if delay else [])]
        argv = ["tc", "qdisc", "add", "dev", link, "root", "netem", *spoilt]
        output(argv, log=self.log, hint="a link is spoilt by the kernel's module sch_netem")
        try:
            yield
        finally:
            self._run("tc", "qdisc", "del", "dev", link, "root")

    def _link(self) -> str:
        """The name of the host's end of host0: nspawn shortens one that is too long, and keeps the whole as another."""
        shown = output(["ip", "-json", "link", "show", "dev", f"vb-{self.name}"], check=False).stdout
        if not shown:
            raise CheckFailed(
                "the machine has no host0, and that is the link that can be cut or made bad",
                hint="nspawn.network.virtual_ethernet = true of image.toml gives it one beside its other links",
            )
        name: str = json.loads(shown)[0]["ifname"]
        return name

    def _run(self, *argv: str) -> None:
        output(argv, log=self.log, timeout=60)
