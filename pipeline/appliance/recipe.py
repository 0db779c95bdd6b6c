"""What goes into the appliance, and the key under which a built one is kept. Builds nothing."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from pipeline.errors import PlaceError

SUITE = "trixie"
PYTHON = "3.13"
"""Debian's release in the guest, and its Python."""

FILES = Path(__file__).parent / "files"

TOOLS = (
    "linux-headers-cloud-amd64", "gcc", "make", "libc6-dev", "file", "binutils", "kmod", "cpio", "gzip", "xz-utils",
    "zstd", "busybox-static", "erofs-utils",
)  # fmt: skip
"""Packages of the root that builds the kernel modules, the initrd and the file system; thrown away afterwards."""

PACKAGES = (
    "systemd", "systemd-sysv", "systemd-container", "udev", "kmod", "dbus", "libpam-systemd", "openssh-server",
    "zfsutils-linux", "python3", "python3-pyzfs", "mmdebstrap", "debootstrap", "debian-archive-keyring",
    "ca-certificates", "zstd", "xz-utils", "bzip2", "tar", "acl", "attr", "libcap2-bin", "iproute2", "iputils-ping",
    "dnsmasq-base", "nftables", "curl", "wget", "rsync", "procps", "psmisc", "less", "git", "gnupg", "gpgv",
    "arch-test",
)  # fmt: skip
"""Packages of the guest."""

LIBRARIES = (
    "filelock", "jinja2", "pexpect", "platformdirs", "pydantic", "pytest", "pytest-testinfra", "pytest-xdist",
    "tenacity",
)  # fmt: skip
"""Python libraries of the guest, in the versions of the Python that runs this."""

TRUST = Path("/etc/ssl/certs/ca-certificates.crt")
"""The certificates that the outer machine trusts, and the guest with it: a proxy's own among them."""


def requirements() -> list[str]:
    """`LIBRARIES` and all that they need in the guest, as "name==version", sorted.

    Raises `PlaceError` when one of them is not installed here.
    """
    inside = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "extra": ""}
    found: dict[str, str] = {}
    wanted = list(LIBRARIES)
    while wanted:
        name = wanted.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError as error:
            raise PlaceError(
                f"missing here: the Python library {name}", hint="pip install -e . in the repository"
            ) from error
        key = distribution.metadata["Name"].lower().replace("_", "-")
        if key in found:
            continue
        found[key] = f"{key}=={distribution.version}"
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate(inside):
                wanted.append(requirement.name)
    return sorted(found.values())


def key() -> str:
    """The name of an appliance with these inputs: twelve hexadecimal digits."""
    digest = hashlib.sha256()
    for text in (SUITE, PYTHON, platform.machine(), *TOOLS, *PACKAGES, *requirements()):
        digest.update(text.encode() + b"\0")
    for path in sorted(FILES.iterdir()):
        if path.name in _BUILD_FILES:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    if TRUST.is_file():
        digest.update(TRUST.read_bytes())
    return digest.hexdigest()[:12]


_BUILD_FILES = ("modules.sh", "root.sh", "assemble.sh", "init")
"""Those of `FILES` that end up in the appliance; the others (setup.sh, serve.py) are used at each start."""
