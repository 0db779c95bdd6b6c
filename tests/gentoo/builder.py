"""The builder root: a small Debian tree with a compiler, in which plain `emerge` behaves as in a stage3.

There is no stage3 to be had without a Gentoo mirror. Portage comes from PyPI by the machine's own pip, the tree from
Debian's mirror by mmdebstrap; files/root.sh puts them together. A plain user can make it, as root of a namespace.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from pipeline.appliance import namespace, recipe
from pipeline.command import SILENT, BuildLog, run

PORTAGE = "portage==3.0.83"
"""The first Portage that reports cycles for programs (facts/portage.md)."""

SUITE = "trixie"

PACKAGES = (
    "bash", "binutils", "bzip2", "file", "gawk", "gcc", "git", "libc6-dev", "make", "mount", "patch", "pax-utils",
    "python3", "wget", "xz-utils", "zstd",
)  # fmt: skip
"""What a stage3 has of what ebuilds use, besides Debian's essential packages."""

_FILES = Path(__file__).parent / "files"
_LIMIT = 1800.0


def make(tar: Path, *, log: BuildLog = SILENT) -> str:
    """Makes the builder root as `tar` and returns its SHA-256.

    Its suffix says how it is compressed: .tar.zst, .tar.xz, .tar. One of the same inputs is left as it is. The digest
    also lies beside it, as sha256sum(1) writes it, in `<tar>.sha256`. Raises `CommandFailed`.
    """
    tar.parent.mkdir(parents=True, exist_ok=True)
    noted, digest = Path(f"{tar}.key"), Path(f"{tar}.sha256")
    with FileLock(f"{tar}.lock"):
        if tar.exists() and noted.exists() and noted.read_text() == key():
            return digest.read_text().split()[0]
        noted.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix="goldspawn-builder-") as made:
            work = Path(made)
            work.chmod(0o755)
            _gather(work, log)
            whole = tar.with_name(f".making-{os.getpid()}-{tar.name}")
            try:
                _mmdebstrap(work, whole, log)
                with whole.open("rb") as stream:
                    found = hashlib.file_digest(stream, "sha256").hexdigest()
                whole.rename(tar)
            finally:
                whole.unlink(missing_ok=True)
        digest.write_text(f"{found}  {tar.name}\n")
        noted.write_text(key())
    return found


def key() -> str:
    """The name of all that goes into the builder: twelve hexadecimal digits."""
    digest = hashlib.sha256("\0".join((PORTAGE, SUITE, platform.machine(), *PACKAGES)).encode())
    for path in sorted(path for path in _FILES.rglob("*") if path.is_file()):
        digest.update(f"\0{path.relative_to(_FILES)}\0".encode() + path.read_bytes())
    if recipe.TRUST.is_file():
        digest.update(recipe.TRUST.read_bytes())
    return digest.hexdigest()[:12]


def _gather(work: Path, log: BuildLog) -> None:
    """Lays out what files/root.sh takes: the wheel, unpacked, and our files."""
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    run([*argv, "--dest", str(work), PORTAGE], log=log, timeout=300, hint="the venv needs pip")
    (wheel,) = work.glob("portage-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work / "wheel")
    shutil.copytree(_FILES / "etc", work / "etc")
    shutil.copy(_FILES / "root.sh", work)
    if recipe.TRUST.is_file():
        shutil.copy(recipe.TRUST, work / "ca.crt")


def _mmdebstrap(work: Path, tar: Path, log: BuildLog) -> None:
    hook = f'sh {shlex.quote(str(work / "root.sh"))} "$1" {shlex.quote(str(work))}'
    argv = ["mmdebstrap", "--mode=root", "--variant=essential", f"--include={','.join(PACKAGES)}"]
    argv += ['--aptopt=APT::Install-Recommends "false"', "--dpkgopt=force-unsafe-io"]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info", "zoneinfo")]
    run(namespace.inside([*argv, f"--customize-hook={hook}", SUITE, str(tar)], processes=True), log=log, timeout=_LIMIT)


if __name__ == "__main__":
    print(make(Path(sys.argv[1]), log=BuildLog(on_line=print)))
