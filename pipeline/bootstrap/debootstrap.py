"""Debian by debootstrap: the classic, as root only.

debootstrap knows one suite of one mirror, so everything else comes after it, by the tree's own apt: updates and
security (as mmdebstrap takes them by itself), further repositories, and packages.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bootstrap.apart import apart, pack
from pipeline.bootstrap.debian import BOUNDED, MACHINE, DebianSettings, explained, repository_files
from pipeline.bootstrap.method import STRICT, Method, register
from pipeline.command import BuildLog, run
from pipeline.errors import PlaceError

_POLICY = "#!/bin/sh\n# Nothing is started while the tree is made.\nexit 101\n"


@dataclass(frozen=True, config=STRICT)
class Debootstrap(DebianSettings):
    """Debian by debootstrap."""

    method: Annotated[Literal["debootstrap"], Field(description="Debian by debootstrap, as root only.")] = "debootstrap"


class _Debootstrap(Method[Debootstrap]):
    name = "debootstrap"
    settings = Debootstrap
    tools: ClassVar = {
        "debootstrap": "debootstrap", "chroot": "coreutils", "setpriv": "util-linux", "unshare": "util-linux",
        "tar": "tar",
    }  # fmt: skip

    def build(self, settings: Debootstrap, tar: Path, *, log: BuildLog, base: Path, slowness: float) -> None:
        if os.geteuid() != 0:
            raise PlaceError("debootstrap needs root", hint='bootstrap.method = "mmdebstrap" of image.toml does not')
        tree = tar.parent / "tree"
        with explained(settings, log) as log:
            run(apart(_argv(settings, tree)), log=log, timeout=1800 * slowness)
            _complete(settings, tree, log=log, base=base, slowness=slowness)
        pack(tree, tar, log=log, timeout=300 * slowness)


def _argv(settings: Debootstrap, tree: Path) -> list[str]:
    variant = [] if settings.variant == "standard" else [f"--variant={settings.variant}"]
    argv = ["debootstrap", *variant, f"--components={','.join(settings.components)}", f"--include={','.join(MACHINE)}"]
    return [*argv, settings.suite, str(tree), *([settings.mirror] if settings.mirror else [])]


def _complete(settings: Debootstrap, tree: Path, *, log: BuildLog, base: Path, slowness: float) -> None:
    """Brings in what debootstrap could not, and takes away what it and apt left."""
    policy = tree / "usr/sbin/policy-rc.d"
    bounds = tree / "etc/apt/apt.conf.d/99goldspawn"
    unsafe = tree / "etc/dpkg/dpkg.cfg.d/99goldspawn"
    policy.write_text(_POLICY)
    policy.chmod(0o755)
    bounds.write_text("".join(f'{name} "{value}";\n' for name, value in BOUNDED.items()))
    unsafe.write_text("force-unsafe-io\n")
    files = repository_files(settings, base)
    for file in files:
        _write(tree, file.sources_path, file.final.encode())
        if file.key_path is not None:
            _write(tree, file.key_path, file.key)
    more = _updates(settings, tree)
    apt = ["apt-get", "--quiet", "--yes", "-oDpkg::Use-Pty=0", "-oAPT::Install-Recommends=false"]
    if more or files or settings.packages:
        _inside(tree, [*apt, "--error-on=any", "update"], log=log, timeout=300 * slowness)
        _inside(tree, [*apt, "dist-upgrade"], log=log, timeout=900 * slowness)
    if settings.packages:
        _inside(tree, [*apt, "install", "--", *settings.packages], log=log, timeout=900 * slowness)
    _inside(tree, ["apt-get", "clean"], log=log, timeout=60 * slowness)
    _clean(tree, [policy, bounds, unsafe])


def _clean(tree: Path, ours: list[Path]) -> None:
    """Leaves the tree as mmdebstrap does: nothing of this host, of this build, of an identity; apt's lists stay."""
    gone = [*ours, tree / "etc/hostname", tree / "etc/resolv.conf"]
    gone += [path for folder in ("run", "tmp") for path in (tree / folder).iterdir()]
    gone += [tree / "var/log" / name for name in ("bootstrap.log", "dpkg.log", "alternatives.log")]
    gone += [path for path in (tree / "var/log/apt").iterdir() if path.is_file()]
    for path in gone:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name in ("etc/machine-id", "var/lib/dbus/machine-id"):
        (tree / name).unlink(missing_ok=True)
    (tree / "etc/machine-id").touch(mode=0o644)


def _updates(settings: Debootstrap, tree: Path) -> bool:
    """Adds the updates and security suites of a release on Debian's own mirror; says whether there are any.

    A release that is out has a number in os-release(5); testing and unstable have none.
    """
    sources = tree / "etc/apt/sources.list"
    if settings.mirror is not None or "\nVERSION_ID=" not in (tree / "etc/os-release").read_text():
        return False
    uri = next(line.split()[1] for line in sources.read_text().splitlines() if line.startswith("deb ")).rstrip("/")
    components = " ".join(settings.components)
    with sources.open("a") as file:
        file.write(f"deb {uri} {settings.suite}-updates {components}\n")
        file.write(f"deb {uri}-security {settings.suite}-security {components}\n")
    return True


def _write(tree: Path, path: str, data: bytes) -> None:
    target = tree / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.chmod(0o644)


def _inside(tree: Path, argv: list[str], *, log: BuildLog, timeout: float) -> None:
    """Runs a command in the tree, with /proc and the few devices that maintainer scripts use."""
    script = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root",
        "DEBIAN_FRONTEND": "noninteractive", **{k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")},
    }  # fmt: skip
    run(apart(["sh", "-ec", script, str(tree), *argv]), log=log, timeout=timeout, env=env)


register(_Debootstrap())
