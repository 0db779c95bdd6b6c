"""What the operator of web1 wants to know of the running machine."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

from pipeline.machine import Network

CURL = "curl --silent --show-error --fail --max-time 60"


def test_nginx_is_enabled_and_running(machine: Host) -> None:
    states = machine.check_output("systemctl is-enabled nginx.service; systemctl is-active nginx.service")
    assert states.split() == ["enabled", "active"]


def test_configuration_of_nginx_is_valid(machine: Host) -> None:
    assert "syntax is ok" in machine.run_expect([0], "nginx -t").stderr


def test_page_is_served(machine: Host) -> None:
    assert "<h1>web1</h1>" in machine.check_output("curl --silent --show-error --fail http://localhost/")


def test_unknown_page_is_not_found(machine: Host) -> None:
    status = machine.check_output(
        "curl --silent --output /dev/null --write-out '%{http_code}' http://localhost/nowhere"
    )
    assert status == "404"


def test_version_of_nginx_is_not_told(machine: Host) -> None:
    headers = machine.check_output("curl --silent --show-error --fail --head http://localhost/")
    assert "Server: nginx" in headers.splitlines()


def test_workers_run_as_www_data(machine: Host) -> None:
    script = 'for one in /proc/[0-9]*; do [ "$(cat $one/comm)" != nginx ] || stat --format=%U $one; done'
    owners = machine.check_output(script).split()
    assert set(owners) == {"root", "www-data"}
    assert owners.count("root") == 1, "only the master runs as root"


def test_requests_are_logged(machine: Host) -> None:
    machine.check_output("curl --silent 'http://localhost/?logged'")
    assert '"GET /?logged HTTP/1.1" 200' in machine.check_output("cat /var/log/nginx/access.log")


def test_nothing_but_port_80_listens(machine: Host) -> None:
    lines = machine.check_output("ss --no-header --listening --tcp --udp --numeric").splitlines()
    # What asks for addresses hears the answers at these (DHCP, DHCPv6).
    sockets = [line for line in lines if not line.split()[4].endswith((":68", ":546"))]
    assert {(line.split()[0], line.split()[4]) for line in sockets} == {("tcp", "0.0.0.0:80"), ("tcp", "[::]:80")}


def test_page_belongs_to_root_and_is_read_by_all(machine: Host) -> None:
    found = machine.check_output("stat --format='%U:%G %a' /var/www/web1/index.html")
    assert found == "root:root 644"


def test_machine_has_its_name_and_time_zone(machine: Host) -> None:
    assert machine.check_output("cat /proc/sys/kernel/hostname; readlink /etc/localtime").split() == [
        "web1",
        "/usr/share/zoneinfo/Etc/UTC",
    ]


@pytest.mark.parametrize("version", [4, 6])
def test_page_is_served_to_others(version: int, network: Network, peer: Host) -> None:
    address = network.address(version)
    shown = f"[{address}]" if version == 6 else address
    assert "<h1>web1</h1>" in peer.check_output(f"{CURL} http://{shown}/")


@pytest.mark.parametrize("version", [4, 6])
def test_others_find_it_by_its_name(version: int, network: Network, peer: Host) -> None:
    network.address(version)
    assert "<h1>web1</h1>" in peer.check_output(f"{CURL} -{version} --retry 5 --retry-all-errors http://web1/")


def test_nobody_translates_addresses_on_the_way(network: Network, peer: Host, machine: Host) -> None:
    peer.check_output(f"{CURL} 'http://{network.address()}/?who'")
    (theirs,) = re.findall(r'^(\S+) .*"GET /\?who ', machine.check_output("cat /var/log/nginx/access.log"), re.M)
    assert theirs in peer.check_output("hostname -I").split()


def test_firewall_answers_nobody_at_other_ports(network: Network, peer: Host, machine: Host) -> None:
    """Without it a port at which nothing listens is refused at once; and the machine was rebooted before this."""
    assert peer.run(f"{CURL} --max-time 2 http://{network.address()}:8080/").rc == 28, "28: no answer in time"
    assert machine.check_output("systemctl is-enabled nftables.service") == "enabled"


def test_a_cut_link_is_a_cut_link_and_comes_back(network: Network, peer: Host) -> None:
    url = f"http://{network.address()}/"
    with network.cut():
        assert peer.run(f"{CURL} --max-time 2 {url}").rc != 0
    assert "<h1>web1</h1>" in peer.check_output(f"{CURL} --retry 10 --retry-all-errors {url}")


def test_page_is_served_over_a_bad_line(network: Network, peer: Host) -> None:
    url = f"http://{network.address()}/"
    with network.bad(loss=5, delay=0.2):
        assert "<h1>web1</h1>" in peer.check_output(f"{CURL} --retry 5 --retry-all-errors {url}")


def test_page_is_served_to_another_peer(network: Network) -> None:
    assert "<h1>web1</h1>" in network.peer().check_output(f"{CURL} http://{network.address()}/")


def test_two_machines_reach_each_other_until_one_is_cut_off(
    machine: Host, disposable_machine: Host, disposable_network: Network, network: Network
) -> None:
    assert "<h1>web1</h1>" in disposable_machine.check_output(f"{CURL} http://{network.address()}/")
    (other,) = [one for one in disposable_machine.check_output("hostname -I").split() if "." in one]
    assert "<h1>web1</h1>" in machine.check_output(f"{CURL} http://{other}/")
    with disposable_network.cut():
        assert machine.run(f"{CURL} --max-time 2 http://{other}/").rc != 0
