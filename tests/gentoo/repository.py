"""A small real ebuild repository, `tiny`, whose @system is a root that boots under systemd.

The ebuilds are those in ebuilds/, copied as they are, but for those that install files of Debian packages: these get
their version, their SRC_URI and their Manifest from apt's own indices. Where the files are fetched from is asked of
the machine's own apt configuration and written into the made repository only (profiles/thirdpartymirrors). apt works
on a state of ours, as any user; the machine's is not touched.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pipeline.command import SILENT, BuildLog, output, run
from pipeline.errors import GoldspawnError
from tests.gentoo import metadata
from tests.gentoo.builder import PORTAGE

SUITE = "trixie"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_EBUILDS = Path(__file__).parent / "ebuilds"
_KEY = "metadata/made-from"
"""Where the made repository says what it was made from; its time is when."""


@dataclass(frozen=True)
class Deb:
    """A file of the archive, as apt's index has it."""

    path: str
    version: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def write(folder: Path, *, max_age: float = 86400.0, log: BuildLog = SILENT) -> Path:
    """Makes the repository `tiny` as `folder`, or leaves the one there if it is of the same ebuilds and young enough.

    `max_age` is in seconds: packages leave the mirror when newer ones come. Returns `folder`. Raises `CommandFailed`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        made, wanted = folder / _KEY, key() + "\n"
        if made.exists() and made.read_text() == wanted and time.time() - made.stat().st_mtime < max_age:
            return folder
        with tempfile.TemporaryDirectory(prefix=".making-", dir=folder.parent) as scratch:
            new = Path(scratch) / "new"
            shutil.copytree(_EBUILDS, new)
            mirror = _fill(new, Path(scratch) / "apt", log)
            (new / "profiles/thirdpartymirrors").write_text(f"debian {mirror}\n")
            names = sorted(path.parent.parent.name for path in new.glob("*/*/*.ebuild"))
            (new / "profiles/categories").write_text("".join(f"{name}\n" for name in dict.fromkeys(names)))
            metadata.write_cache(new, profile="default", work=Path(scratch) / "cache", log=log)
            (new / _KEY).write_text(wanted)
            _put(new, folder)
    return folder


def _put(new: Path, folder: Path) -> None:
    """Puts a folder in another's place, which for an instant is empty; the old one is left beside where the new was."""
    if folder.exists():
        folder.rename(new.with_name("old"))
    new.rename(folder)


def _fill(repository: Path, state: Path, log: BuildLog) -> str:
    """Makes real ebuilds of those with DEBS; returns the mirror's address."""
    templates = {path: path.read_text() for path in sorted(repository.glob("*/*/*.ebuild"))}
    wanted = {path: found[1].split() for path, text in templates.items() if (found := _DEBS.search(text))}
    mirror, debs = _ask_apt(sorted({name for names in wanted.values() for name in names}), state, log)
    for path, names in wanted.items():
        files = [debs[name] for name in names]
        uris = "".join(f"\n\tmirror://debian/{deb.path}" for deb in files)
        version = _version(files[0])
        path.with_name(f"{path.stem}-{version}.ebuild").write_text(templates[path].replace("@SRC_URI@", f"{uris}\n"))
        path.unlink()
        lines = sorted(f"DIST {deb.name} {deb.size} SHA256 {deb.sha256}\n" for deb in files)
        path.with_name("Manifest").write_text("".join(lines))
    return mirror


_DEBS = re.compile(r'^DEBS="([^"]+)"', re.MULTILINE)


def _version(deb: Deb) -> str:
    """The upstream version, as far as Portage can read it: 257.13 of 257.13-1~deb13u1, 2.41 of 1:2.41-12."""
    upstream = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", deb.version)
    if upstream is None:
        raise GoldspawnError(f"no version to be made of {deb.name} {deb.version}")
    return upstream[1]


def _ask_apt(names: list[str], state: Path, log: BuildLog) -> tuple[str, dict[str, Deb]]:
    """The mirror's address, and what it has of these packages."""
    mirror = _mirror()
    (state / "lists/partial").mkdir(parents=True)
    (state / "cache").mkdir()
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {SUITE} main\n")
    settings = {
        "Dir::State": state, "Dir::State::lists": state / "lists", "Dir::State::status": "/dev/null",
        "Dir::Cache": state / "cache", "Dir::Etc::sourcelist": state / "sources.list", "Dir::Etc::sourceparts": "-",
        "APT::Architecture": "amd64", "APT::Sandbox::User": "", "Acquire::Languages": "none",
    }  # fmt: skip
    options = [f"--option={key}={value}" for key, value in settings.items()]
    run(["apt-get", *options, "--quiet", "--error-on=any", "update"], log=log, timeout=300)
    text = output(["apt-cache", *options, "show", "--no-all-versions", *names], log=log).stdout
    debs = {}
    for paragraph in text.strip().split("\n\n"):
        fields = dict(re.findall(r"^([A-Z][A-Za-z0-9-]*): (.*)$", paragraph, re.MULTILINE))
        deb = Deb(fields["Filename"], fields["Version"], int(fields["Size"]), fields["SHA256"])
        debs[fields["Package"]] = deb
    if lost := set(names) - set(debs):
        raise GoldspawnError(f"{SUITE} has no {', '.join(sorted(lost))}")
    return mirror, debs


def _mirror() -> str:
    """Where this machine's own apt has its distribution's main packages from."""
    argv = ["apt-get", "indextargets", "--format=$(COMPONENT) $(CODENAME) $(REPO_URI)", "Created-By: Packages"]
    rows = [line.split() for line in output(argv).stdout.splitlines()]
    # Of the release's own archive: those of updates and of security have a dash in their name.
    found = [row[2] for row in rows if len(row) == 3 and row[0] == "main" and "-" not in row[1]]
    if not found:
        raise GoldspawnError("apt on this machine knows no Debian mirror", hint="apt-get update")
    return found[0].rstrip("/")


def key() -> str:
    """The name of all that the repository is made from, but for the mirror's state: twelve hexadecimal digits."""
    digest = hashlib.sha256(f"{SUITE} {PORTAGE}".encode())
    for path in sorted(path for path in _EBUILDS.rglob("*") if path.is_file()):
        digest.update(f"\0{path.relative_to(_EBUILDS)}\0".encode() + path.read_bytes())
    for path in (Path(__file__), Path(metadata.__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


if __name__ == "__main__":
    write(Path(sys.argv[1]), log=BuildLog(on_line=print))
