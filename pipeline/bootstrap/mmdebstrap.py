"""Debian by mmdebstrap: apt does all the work, as root or as a plain user."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bootstrap.apart import apart, pack
from pipeline.bootstrap.debian import BOUNDED, DebianSettings, explained, repository_files
from pipeline.bootstrap.method import STRICT, Method, register
from pipeline.command import BuildLog, run
from pipeline.scratch import scratch_for_all

_LEFT = ("apt/apt.conf.d/99mmdebstrap", "dpkg/dpkg.cfg.d/99mmdebstrap", "hostname", "resolv.conf")
"""Files below /etc that are the building host's affair."""


@dataclass(frozen=True, config=STRICT)
class Mmdebstrap(DebianSettings):
    """Debian by mmdebstrap."""

    method: Annotated[Literal["mmdebstrap"], Field(description="Debian by mmdebstrap, also as a plain user.")] = (
        "mmdebstrap"
    )


class _Mmdebstrap(Method[Mmdebstrap]):
    name = "mmdebstrap"
    settings = Mmdebstrap
    tools: ClassVar = {
        "mmdebstrap": "mmdebstrap",
        "apt-get": "apt",
        "setpriv": "util-linux",
        "unshare": "util-linux",
        "tar": "tar",
    }
    unprivileged = True
    logs_in = True

    def build(
        self, settings: Mmdebstrap, tar: Path, *, log: BuildLog, base: Path, slowness: float, logins: Path | None = None
    ) -> None:
        work = tar.parent
        limit = 1800 * slowness
        with explained(settings, log) as log:
            if os.geteuid() == 0:
                argv = self._argv(settings, work, base, mode="root", target=work / "tree", logins=logins)
                env = {**os.environ, "TMPDIR": str(work)}
                run(apart(argv), log=log, timeout=limit, env=env)
                pack(work / "tree", tar, log=log, timeout=300 * slowness)
                return
            # A plain user's tree belongs to ids that only mmdebstrap can act as: it packs it itself, without ACLs.
            with scratch_for_all() as folder, tar.open("wb") as stream:
                argv = self._argv(settings, work, base, mode="unshare", target="-", logins=logins)
                env = {**os.environ, "TMPDIR": str(folder)}
                run(apart(argv), log=log, timeout=limit, env=env, stdout=stream)

    @staticmethod
    def _argv(
        settings: Mmdebstrap, work: Path, base: Path, *, mode: str, target: Path | str, logins: Path | None
    ) -> list[str]:
        argv = ["mmdebstrap", f"--mode={mode}", f"--format={'directory' if mode == 'root' else 'tar'}"]
        argv += [f"--variant={settings.variant}", f"--components={','.join(settings.components)}"]
        argv += [f"--include={','.join(settings.include)}"]
        argv += [f'--aptopt={name} "{value}"' for name, value in BOUNDED.items()]
        # What is built is thrown away when it is not whole: dpkg need not wait for the disk.
        argv += ["--dpkgopt=force-unsafe-io"]
        # apt's lists stay, so that the update of the profile stage only has to ask whether they are still the newest
        # (emulated, that is seconds instead of half a minute); the seal wipes them.
        argv += ["--skip=cleanup/apt/lists"]
        release = f'"$1"/var/lib/apt/lists/*_dists_{quote(settings.suite.replace("/", "_"))}_*Release'
        argv += [f"--extract-hook=grep --no-filename ^Components: {release} || true"]
        argv += _repositories(settings, work, base)
        if logins is not None:
            argv += _logins(logins, mode)
        argv += ['--customize-hook=cd "$1/etc" && rm -f ' + " ".join(_LEFT)]
        return [*argv, settings.suite, str(target), *([settings.mirror] if settings.mirror else [])]


def _logins(folder: Path, mode: str) -> list[str]:
    """The options that let apt log in. As root it reads the files where they are; a plain user's apt runs under other

    ids, and has a copy in the tree, which is gone before that is packed.
    """
    if mode == "root":
        return [f'--aptopt=Dir::Etc::netrcparts "{folder}/"']
    argv = []
    for file in sorted(folder.iterdir()):
        inside = f"/etc/apt/auth.conf.d/{file.name}"
        argv.append(f"--setup-hook=upload {quote(str(file))} {quote(inside)}")
        argv.append(f'--customize-hook=rm "$1"{quote(inside)}')
    return argv


def _repositories(settings: Mmdebstrap, work: Path, base: Path) -> list[str]:
    """The hooks that bring the further repositories in, before apt begins and for good."""
    hooks = []
    for index, files in enumerate(repository_files(settings, base)):
        building, final, key = (work / f"{index}.{kind}" for kind in ("building", "final", "key"))
        building.write_text(files.building)
        final.write_text(files.final)
        hooks.append(f"--setup-hook=upload {quote(str(building))} {quote(files.sources_path)}")
        hooks.append(f"--customize-hook=upload {quote(str(final))} {quote(files.sources_path)}")
        if files.key_path is not None:
            key.write_bytes(files.key)
            hooks.append('--customize-hook=mkdir -p "$1/etc/apt/keyrings"')
            hooks.append(f"--customize-hook=upload {quote(str(key))} {quote(files.key_path)}")
    return hooks


register(_Mmdebstrap())
