"""The metadata cache of an ebuild repository, as every published tree ships one (metadata/md5-cache).

Without it Portage runs bash for each ebuild that it looks at: 18 s for this small tree in an emulated guest. The real
egencache makes it, of the Portage that the builder has, in a virtual environment of its own.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys
from pathlib import Path

from pipeline.command import SILENT, BuildLog, run
from tests.gentoo.builder import PORTAGE

_UNBOXED = "-ipc-sandbox -network-sandbox -pid-sandbox -sandbox -usersandbox -userpriv"


def write_cache(repository: Path, *, profile: str, work: Path, log: BuildLog = SILENT) -> None:
    """Writes the cache into a repository without masters, whose profile `profile` is any that is valid.

    `work` is a folder to be made for what that takes; needs bash. Raises `CommandFailed`.
    """
    work.mkdir()
    place = work / "portage"
    run([sys.executable, "-m", "venv", "--without-pip", str(place)], log=log, timeout=60)
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin/python"), "install", "--quiet", "--no-deps"]
    run([*pip, PORTAGE], log=log, timeout=300, hint="the venv needs pip")
    for name in ("dep", "tmp"):
        (work / name).mkdir()
    (work / "config/etc/portage").mkdir(parents=True)
    (work / "config/etc/portage/make.profile").symlink_to((repository / "profiles" / profile).absolute())
    (work / "config/etc/portage/make.conf").write_text(f'PORTAGE_TMPDIR="{work / "tmp"}"\n')
    name = (repository / "profiles/repo_name").read_text().strip()
    repositories = f"[DEFAULT]\nmain-repo = {name}\n[{name}]\nlocation = {repository.absolute()}\n"
    argv = [str(place / "bin/python"), str(place / "bin/egencache"), "--update", f"--repo={name}"]
    argv += [f"--config-root={work / 'config'}", f"--cache-dir={work / 'dep'}"]
    argv += [f"--jobs={os.cpu_count()}", f"--repositories-configuration={repositories}"]
    # EPREFIX: set and empty, or the virtual environment were a prefix (facts/portage.md).
    mine = {
        "PORTAGE_USERNAME": pwd.getpwuid(os.geteuid()).pw_name,
        "PORTAGE_GRPNAME": grp.getgrgid(os.getegid()).gr_name,
    }
    env = {"PATH": os.environ["PATH"], "HOME": str(work), "LC_ALL": "C.UTF-8", "EPREFIX": "", "FEATURES": _UNBOXED}
    run(argv, log=log, timeout=300, env={**env, **mine})
