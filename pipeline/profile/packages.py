"""The machine's packages, installed by the tree's own package manager inside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.command import BuildLog
from pipeline.errors import CommandFailed, GoldspawnError
from pipeline.machine.nspawn import inside

_NO_SERVICES = "#!/bin/sh\n# Nothing is started while the tree is made.\nexit 101\n"


def install(tree: Path, names: Sequence[str], *, log: BuildLog, slowness: float) -> None:
    """Installs packages by name. Raises `CommandFailed`, or `GoldspawnError` for a tree without a known manager."""
    if not names:
        return
    for program, manager in _MANAGERS.items():
        if (tree / program).exists():
            manager(tree, names, log, slowness)
            return
    raise GoldspawnError(
        "profile.packages: the tree has no package manager that goldspawn knows", hint=f"known: {', '.join(_MANAGERS)}"
    )


def _apt(tree: Path, names: Sequence[str], log: BuildLog, slowness: float) -> None:
    policy = tree / "usr/sbin/policy-rc.d"
    fresh = not policy.exists()
    if fresh:
        policy.write_text(_NO_SERVICES)
        policy.chmod(0o755)
    bounded = [
        "-oAcquire::Retries=2",
        "-oAcquire::Languages=none",
        "-oAcquire::http::Timeout=30",
        "-oDpkg::Use-Pty=0",
        "-oAPT::Sandbox::User=root",
    ]
    try:
        inside(tree, ["apt-get", "--quiet", *bounded, "--error-on=any", "update"], log=log, timeout=120 * slowness,
               hint="the mirror is bootstrap.mirror in image.toml")  # fmt: skip
        inside(
            tree,
            ["apt-get", "--quiet", *bounded, "--yes", "--no-install-recommends", "-oDpkg::Options::=--force-confnew",
             "install", "--", *names],
            log=log,
            timeout=600 * slowness,
        )  # fmt: skip
    except CommandFailed as error:
        unknown = [name for name in names if f"Unable to locate package {name}" in error.tail]
        if unknown:
            error.hint = (
                f"profile.packages of image.toml names {', '.join(unknown)}, which no repository of the image has"
            )
        raise
    finally:
        if fresh:
            policy.unlink(missing_ok=True)


_MANAGERS: dict[str, Callable[[Path, Sequence[str], BuildLog, float], None]] = {"usr/bin/apt-get": _apt}
"""A program whose presence in the tree tells the package manager, and what installs with it."""
