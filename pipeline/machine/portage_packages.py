"""pytest-testinfra's `package` for Gentoo, which it lacks: what is merged, by Portage's database of installed packages.

`host.package("nginx")` or `host.package("www-servers/nginx")`. Versions are those of ebuilds (PMS, chapter 3.2), the
revision (`-r1`) is the release.
"""

from __future__ import annotations

import re
from typing import Any

from testinfra.modules.package import Package

DATABASE = "/var/db/pkg"

_VERSION = re.compile(r"(?P<version>\d+(\.\d+)*[a-z]?(_(alpha|beta|pre|rc|p)\d*)*)(-r(?P<revision>\d+))?")


class PortagePackage(Package):  # type: ignore[misc,unused-ignore]
    """A package that is merged, or not; of one with several slots the newest is told."""

    @property
    def is_installed(self) -> bool:
        return bool(self._versions())

    @property
    def version(self) -> str:
        return self._newest()["version"]

    @property
    def release(self) -> str:
        """The revision, "0" for an ebuild without one."""
        return self._newest()["revision"] or "0"

    def _newest(self) -> re.Match[str]:
        versions = self._versions()
        assert versions, f"The package {self.name} is not installed, {DATABASE} does not have it"
        return max(versions, key=_order)

    def _versions(self) -> list[re.Match[str]]:
        category, _, name = self.name.rpartition("/")
        pattern = f"{DATABASE}/{category or '*'}/{name}-[0-9]*"
        listed = self.check_output("find %s -mindepth 2 -maxdepth 2 -path %s", DATABASE, pattern)
        found = (_VERSION.fullmatch(path.rsplit("/", 1)[1][len(name) + 1 :]) for path in listed.splitlines())
        return [one for one in found if one]


def _order(version: re.Match[str]) -> tuple[list[int], str, int]:
    numbers = [int(part) for part in re.findall(r"\d+", version["version"])]
    return numbers, version["version"], int(version["revision"] or 0)


def extend() -> None:
    """Makes testinfra choose it on Gentoo."""
    usual = Package.get_module_class

    def choose(cls: type[Package], host: Any) -> Any:
        return PortagePackage if host.system_info.distribution == "gentoo" else usual(host)

    Package.get_module_class = classmethod(choose)
