"""What the outer machine must have for the appliance: all that is missing, at once."""

from __future__ import annotations

import importlib.util
import os
import shutil

from pipeline.appliance import namespace
from pipeline.errors import PlaceError

_TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
_PLAIN_USER = {"newuidmap": "uidmap", "newgidmap": "uidmap"}


def missing_tools() -> list[tuple[str, str]]:
    """The tools that are not here, each with Debian's package that has it. Empty where the appliance can run."""
    wanted = _TOOLS if os.geteuid() == 0 else _TOOLS | _PLAIN_USER
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    lost = [(tool, package) for tool, package in wanted.items() if shutil.which(tool, path=path) is None]
    if importlib.util.find_spec("pip") is None:
        lost.append(("pip", "python3-pip"))
    return lost


def require_tools() -> None:
    """Raises one `PlaceError` that names everything that is missing here, and what to do about it."""
    lost = missing_tools()
    if lost:
        named = ", ".join(f"{tool} (package {package})" for tool, package in lost)
        packages = " ".join(sorted({package for _, package in lost}))
        raise PlaceError(f"missing here for the appliance: {named}", hint=f"apt install {packages}")
    if os.geteuid() != 0 and not namespace.has_range():
        namespace.check()
