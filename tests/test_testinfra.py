"""pytest-testinfra over our back end: by itself (`--hosts=nspawn://NAME`), and for Portage's packages."""

from __future__ import annotations

from pathlib import Path

import pytest
from testinfra.backend import get_backend
from testinfra.host import Host

from pipeline.machine.portage_packages import PortagePackage
from pipeline.place import Place
from tests.conftest import SMALL, Sessions

BY_ITSELF = """
import subprocess
import sys

def test_any_pytest_reaches_the_machine(machine, tmp_path):
    test = "def test_os(host):\\n    assert host.file('/etc/hostname').content_string == 'reached\\\\n'\\n"
    (tmp_path / "test_it.py").write_text(test)
    argv = [sys.executable, "-m", "pytest", "-p", "pipeline.plugin", "-p", "no:cacheprovider", "-v",
            f"--hosts=nspawn://{machine.backend.name}", "test_it.py"]
    ended = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"test_os[nspawn://{machine.backend.name}] PASSED" in ended.stdout
"""


def test_a_machine_is_reached_by_its_name_alone(bootstrapped: Place, sessions: Sessions) -> None:
    sessions.image("reached", SMALL, tests=BY_ITSELF)
    ended = sessions.run("--image=reached", "-k", "test_any_pytest")
    assert ended.outcome("test_any_pytest_reaches_the_machine") == "PASSED", ended.output


@pytest.fixture
def merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """This machine, with a database of packages of the test's own."""
    database = tmp_path / "pkg"
    for name in ("www-servers/nginx-1.26.2", "www-servers/nginx-1.26.10-r1", "dev-libs/foo-2bar-3.0_rc1",
                 "sys-apps/nginx-unit-1.33.0"):  # fmt: skip
        (database / name).mkdir(parents=True)
    monkeypatch.setattr("pipeline.machine.portage_packages.DATABASE", str(database))
    return Host(get_backend("local://"))


@pytest.mark.parametrize(
    ("name", "version", "release"),
    [
        ("nginx", "1.26.10", "1"),
        ("www-servers/nginx", "1.26.10", "1"),
        ("foo-2bar", "3.0_rc1", "0"),
        ("foo", None, None),
        ("dev-libs/nginx", None, None),
    ],
)
def test_packages_that_portage_merged(name: str, version: str | None, release: str | None, merged: Host) -> None:
    found = type("Merged", (PortagePackage,), {"_host": merged})(name)
    assert found.is_installed is (version is not None)
    if version is not None:
        assert (found.version, found.release) == (version, release)
    else:
        with pytest.raises(AssertionError, match=f"{name} is not installed"):
            _ = found.version
