"""What the operator of web1 wants to know of the running machine."""

from __future__ import annotations

from testinfra.host import Host


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
    sockets = machine.check_output("ss --no-header --listening --tcp --udp --numeric").splitlines()
    assert {(line.split()[0], line.split()[4]) for line in sockets} == {("tcp", "0.0.0.0:80"), ("tcp", "[::]:80")}


def test_page_belongs_to_root_and_is_read_by_all(machine: Host) -> None:
    found = machine.check_output("stat --format='%U:%G %a' /var/www/web1/index.html")
    assert found == "root:root 644"


def test_machine_has_its_name_and_time_zone(machine: Host) -> None:
    assert machine.check_output("cat /proc/sys/kernel/hostname; readlink /etc/localtime").split() == [
        "web1",
        "/usr/share/zoneinfo/Etc/UTC",
    ]
