"""The files that put a host and its machines on the LAN: what they say, and that systemd-networkd does it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.network.__main__ import main
from pipeline.network.lan import Fixed, files
from pipeline.place import Place
from tests.conftest import SMALL, Sessions
from tests.test_faults_machine import NETWORKED

STATIC = ["--address", "192.168.1.2/24", "--gateway", "192.168.1.1", "--dns", "192.168.1.1", "--dns", "fd00::53"]


def test_the_bridge_has_no_address_and_the_host_has_one_by_dhcp(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["br0", "enp1s0"]) == 0
    printed = capsys.readouterr().out
    assert printed == "".join(f"# {name}\n{text}\n" for name, text in files("br0", "enp1s0").items())
    assert files("br0", "enp1s0", "host") == {
        "20-br0.netdev": "[NetDev]\nName=br0\nKind=bridge\n\n[Bridge]\nSTP=no\n",
        "20-br0-uplink.network": "[Match]\nName=enp1s0\n\n[Network]\nBridge=br0\n",
        "20-br0.network": "[Match]\nName=br0\n\n[Network]\nMACVLAN=host\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        "DHCP=no\n\n[Link]\nRequiredForOnline=no\n",
        "21-host.netdev": "[NetDev]\nName=host\nKind=macvlan\n\n[MACVLAN]\nMode=bridge\n",
        "21-host.network": "[Match]\nName=host\n\n[Network]\nDHCP=yes\n",
    }


def test_a_fixed_address_comes_with_a_route_and_name_servers(tmp_path: Path) -> None:
    assert main(["br0", "enp1s0", *STATIC, "--into", str(tmp_path / "network")]) == 0
    assert (tmp_path / "network/21-main.network").read_text() == (
        "[Match]\nName=main\n\n[Network]\nAddress=192.168.1.2/24\nGateway=192.168.1.1\nDNS=192.168.1.1\nDNS=fd00::53\n"
    )
    assert main(["br0", "enp1s0", "--address=10.0.0.2/8", "--gateway=none", "--dns=none"]) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (STATIC[:2], "--address needs --gateway and --dns as well"),
        (STATIC[:4], "--address needs --dns as well"),
        (STATIC[2:4], "--gateway is for a host with --address"),
        (["--address", "192.168.1.2", *STATIC[2:]], 'an address with its prefix such as "192.168.1.2/24"'),
        (["--address", "192.168.1.2/x", *STATIC[2:]], 'got "192.168.1.2/x"'),
        ([*STATIC[:2], "--gateway", "192.168.2.1", "--dns=none"], "192.168.2.1 is not in the net of an address"),
        ([*STATIC, "--dns", "dns.example"], 'dns: expected an address such as "192.168.1.1", got "dns.example"'),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["br0", "enp1s0", *options, "--into", str(tmp_path / "network")])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "network").exists()


def test_files_that_are_there_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "20-br0.network").write_text("mine")
    assert main(["br0", "enp1s0", "--into", str(tmp_path)]) == 1
    assert "20-br0.network: is there already; nothing was written" in capsys.readouterr().err
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("20-br0.network", "mine")]


TESTS = """
import json
import subprocess

from pipeline.machine.unit import leader

def ip(network, words):
    argv = ["nsenter", f"--target={leader(network.name)}", "--net", "ip", "-json", *words.split()]
    return json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)

def addresses(link):
    return [one["local"] for one in link["addr_info"] if one["scope"] == "global"]

def test_the_bridge_is_a_switch_and_the_host_stands_on_it(network, peer):
    address = network.address(4)
    found = {one["ifname"]: one for one in ip(network, "-details address")}
    assert found["br0"]["linkinfo"]["info_kind"] == "bridge" and found["host0"]["master"] == "br0"
    assert found["br0"]["addr_info"] == [] and found["host0"]["addr_info"] == []
    assert found["main"]["linkinfo"]["info_kind"] == "macvlan" and found["main"]["link"] == "br0"
    assert address == EXPECTED or EXPECTED == "dhcp" and address.startswith("198.18.0.1")
    assert addresses(found["main"])[0] == address
    peer.run_expect([0], f"ping -c 1 -W 20 {address}")

def test_it_has_its_route_and_its_name_server(machine, network):
    (route,) = ip(network, "-4 route show default")
    assert (route["gateway"], route["dev"]) == ("198.18.0.1", "main")
    assert "\\nDNS=198.18.0.1" in machine.check_output("cat /run/systemd/netif/links/*")
"""


def test_networkd_makes_the_bridge_and_the_host_is_reached(bootstrapped: Place, sessions: Sessions) -> None:
    """In a machine on a segment, whose link host0 is the uplink."""
    fixed = Fixed(["198.18.0.50/24"], ["198.18.0.1"], ["198.18.0.1"])
    for name, given, expected in (("lan-dhcp", None, "dhcp"), ("lan-fixed", fixed, "198.18.0.50")):
        root = {f"etc/systemd/network/{file}": text for file, text in files("br0", "host0", fixed=given).items()}
        sessions.image(name, SMALL + NETWORKED, tests=f"EXPECTED = '{expected}'\n{TESTS}", root=root)
    only = "the_bridge_is or its_route"
    ended = sessions.run("-k", only, limit=900)
    assert ended.outcomes("PASSED") == [
        "test_the_bridge_is_a_switch_and_the_host_stands_on_it", "test_it_has_its_route_and_its_name_server",
    ] * 2, ended.output  # fmt: skip
