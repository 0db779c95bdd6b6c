"""A small Gentoo of a test's own: an ebuild repository, a target root, a builder, and the real emerge of PyPI.

The builder is a virtual environment made of links to an installed Portage: Portage takes `sys.prefix` for its `/`, so
what BDEPEND merges lands in a folder of the test's, and nothing ever in this machine's `/`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.command import BuildLog
from pipeline.portage import Emerge

FEATURES = (
    "-sandbox -usersandbox -userpriv -userfetch -usersync -ipc-sandbox -network-sandbox -pid-sandbox -mount-sandbox "
    "-news -merge-wait"
)
CATEGORIES = ("app-misc", "dev-libs", "dev-util", "media-libs", "virtual")

HEADER = """\
#pragma once
int {name}_value(void);
"""

SOURCE = """\
#include "{name}.h"
{includes}
int {name}_value(void) {{ return 1{calls}; }}
"""

FEATURE = """\
#if __has_include(<{dep}{need}.h>)
#include <{dep}{need}.h>
int {name}_with_{dep}(void) {{ return {dep}_value(); }}
#endif
"""

LIBRARY = """\
S="${{WORKDIR}}"
src_compile() {{
    local libs=() root="${{ESYSROOT}}/usr" name
    for name in {deps}; do
        [[ -e ${{root}}/lib/lib${{name}}.so ]] && libs+=( "-l${{name}}" )
    done
    gcc -shared -fPIC -Wl,-soname,lib{name}.so.1 -I"${{FILESDIR}}" -I"${{root}}/include" -o lib{name}.so.1 \\
        "${{FILESDIR}}/{name}.c" -L"${{root}}/lib" -Wl,-rpath-link,"${{root}}/lib" "${{libs[@]}}" || die "no {name}"
}}
src_install() {{
    insinto /usr/include
    doins "${{FILESDIR}}/{name}.h"
    for name in {may}; do
        [[ -e ${{ESYSROOT}}/usr/include/${{name}}.h ]] && doins "${{FILESDIR}}/{name}-with-${{name}}.h"
    done
    exeinto /usr/lib
    doexe lib{name}.so.1
    dosym lib{name}.so.1 /usr/lib/lib{name}.so
}}
"""


@dataclass
class World:
    """All paths lie below `folder`; `portage` is the virtual environment whose Portage is used."""

    folder: Path
    portage: Path = field(default_factory=lambda: Path(sys.prefix))

    def __post_init__(self) -> None:
        self.repository = self.folder / "repo"
        self.target = self.folder / "target"
        self.builder = self.folder / "builder"
        self.packages = self.folder / "packages"
        self.distfiles = self.folder / "distfiles"
        self.system: list[str] = []
        self.lines: list[str] = []
        (self.repository / "metadata").mkdir(parents=True)
        self.write(
            "metadata/layout.conf", "masters =\nthin-manifests = true\nprofile-formats = portage-2 profile-set\n"
        )
        self.write("profiles/repo_name", "tiny\n")
        self.write("profiles/arch.list", "amd64\n")
        self.write("profiles/categories", "\n".join(CATEGORIES) + "\n")
        self.write("profiles/base/eapi", "8\n")
        self.write(
            "profiles/base/make.defaults", 'ARCH="amd64"\nACCEPT_KEYWORDS="amd64"\nCHOST="x86_64-pc-linux-gnu"\n'
        )
        self.write("licenses/Free", "free\n")
        self._make_builder()
        for root in (self.target, self.builder):
            self._configure(root)

    def write(self, path: str, text: str) -> Path:
        """Writes a file of the repository."""
        file = self.repository / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def ebuild(
        self,
        package: str,
        version: str = "1",
        *,
        depend: str = "",
        rdepend: str = "",
        bdepend: str = "",
        iuse: str = "",
        slot: str = "0",
        body: str = 'S="${WORKDIR}"\n',
        keywords: str = "amd64",
        more: str = "",
        system: bool = False,
    ) -> None:
        """Writes an ebuild; with `system`, the package is part of @system."""
        category, name = package.split("/")
        facts = {
            "EAPI": "8", "DESCRIPTION": "a package of a test", "SLOT": slot, "KEYWORDS": keywords, "IUSE": iuse,
            "LICENSE": "Free", "DEPEND": depend, "RDEPEND": rdepend, "BDEPEND": bdepend,
        }  # fmt: skip
        text = "".join(f'{key}="{value}"\n' for key, value in facts.items())
        self.write(f"{category}/{name}/{name}-{version}.ebuild", text + more + body)
        if system:
            self.system.append(package)
            self.write("profiles/base/packages", "".join(f"*{package}\n" for package in self.system))

    def library(
        self,
        name: str,
        *,
        must: Iterable[str] = (),
        may: Iterable[str] = (),
        full: Iterable[str] = (),
        category: str = "dev-libs",
        system: bool = True,
        **more: str,
    ) -> None:
        """A C library: it does not compile without `must`; with `may` it has one function and header more for each.

        `full` are pairs "dep/feature": it has `NAME_with_DEP` if dep was built with that feature. All are needed with
        `:=` unless `depend` says otherwise.
        """
        must, may, full = tuple(must), tuple(may), tuple(full)
        includes = "".join(f"#include <{dep}.h>\n" for dep in must)
        includes += "".join(FEATURE.format(name=name, dep=dep, need="") for dep in may)
        for pair in full:
            dep, feature = pair.split("/")
            includes += FEATURE.format(name=name, dep=dep, need=f"-with-{feature}").replace(
                f"{name}_with_{dep}", f"{name}_full_{dep}"
            )
        calls = "".join(f" + {dep}_value()" for dep in must)
        files = f"{category}/{name}/files"
        self.write(f"{files}/{name}.h", HEADER.format(name=name))
        self.write(f"{files}/{name}.c", SOURCE.format(name=name, includes=includes, calls=calls))
        for dep in may:
            self.write(
                f"{files}/{name}-with-{dep}.h", f'#pragma once\n#include "{name}.h"\nint {name}_with_{dep}(void);\n'
            )
        deps = dict.fromkeys([*must, *may, *(pair.split("/")[0] for pair in full)])
        needs = " ".join(f"dev-libs/{dep}:=" for dep in deps)
        more.setdefault("depend", needs)
        more.setdefault("rdepend", more["depend"])
        more.setdefault("slot", "0/1")
        body = LIBRARY.format(name=name, deps=" ".join(deps), may=" ".join(may))
        self.ebuild(f"{category}/{name}", body=body, system=system, **more)  # type: ignore[arg-type]

    def configure(self, name: str, text: str) -> None:
        """Writes a file below the target's etc/portage."""
        (self.target / "etc/portage" / name).write_text(text)

    def emerge(self, *options: str, **environment: str) -> Emerge:
        """The real emerge for this world; its lines land in `lines`."""
        log = BuildLog(self.folder / "log", self.lines.append)
        env = {
            "EPREFIX": "", "PORTAGE_USERNAME": "root", "PORTAGE_GRPNAME": "root", "FEATURES": "notitles",
            "PORTAGE_TMPDIR": str(self.folder / "tmp"), **environment,
        }  # fmt: skip
        return Emerge(
            str(self.target), self.target, builder=self.builder, programs=str(self.builder / "bin"), options=options,
            environment=env, log=log, limit=1800,
        )  # fmt: skip

    def needed(self, name: str) -> set[str]:
        """The libraries with which libNAME of the target is linked, as readelf(1) tells."""
        file = self.target / f"usr/lib/lib{name}.so.1"
        told = subprocess.run(["readelf", "-d", file], capture_output=True, text=True, check=True).stdout
        return set(re.findall(r"\(NEEDED\).*\[lib(\w+)\.so\.1\]", told))

    def symbols(self, name: str) -> set[str]:
        """The functions that libNAME of the target gives."""
        file = self.target / f"usr/lib/lib{name}.so.1"
        told = subprocess.run(["readelf", "--dyn-syms", "-W", file], capture_output=True, text=True, check=True).stdout
        return {line.split()[7] for line in told.splitlines() if " FUNC " in line and " UND " not in line}

    def merges(self) -> list[str]:
        """What was merged where, in order: "dev-libs/a-1" or "dev-util/b-1 (builder)"."""
        found = re.findall(r"^>>> Completed \(\d+ of \d+\) (\S+?)::tiny( to \S+)?$", "\n".join(self.lines), re.M)
        return [cpv if to else f"{cpv} (builder)" for cpv, to in found]

    def _configure(self, root: Path) -> None:
        etc = root / "etc/portage"
        etc.mkdir(parents=True)
        (etc / "make.profile").symlink_to(self.repository / "profiles/base")
        (etc / "repos.conf").write_text(
            f"[DEFAULT]\nmain-repo = tiny\n[tiny]\nlocation = {self.repository}\nauto-sync = no\n"
        )
        (etc / "make.conf").write_text(
            f'FEATURES="{FEATURES}"\nDISTDIR="{self.distfiles}"\nPKGDIR="{self.packages}"\n'
            'GENTOO_MIRRORS=""\nACCEPT_LICENSE="*"\n'
        )

    def _make_builder(self) -> None:
        """A virtual environment whose Portage is that of `self.portage`, by links."""
        site = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        (self.builder / site).mkdir(parents=True)
        (self.builder / "bin").mkdir()
        for name in ("portage", "_emerge"):
            (self.builder / site / name).symlink_to(self.portage / site / name)
        (self.builder / "lib/portage").symlink_to(self.portage / "lib/portage")
        shutil.copytree(self.portage / "share/portage", self.builder / "share/portage")
        # Without the section for a repository that is not here, every call would warn of it four times.
        (self.builder / "share/portage/config/repos.conf").write_text("")
        (self.builder / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
        (self.builder / "bin/python").symlink_to(Path(os.path.realpath(sys.executable)))
        for name in ("emerge", "portageq", "emaint", "ebuild", "quickpkg"):
            lines = (self.portage / "bin" / name).read_text().split("\n", 1)
            script = self.builder / "bin" / name
            script.write_text(f"#!{self.builder}/bin/python\n{lines[1]}")
            script.chmod(0o755)
        for folder in (self.folder / "tmp", self.distfiles, self.packages):
            folder.mkdir()
