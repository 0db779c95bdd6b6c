"""Each mistake and each failure, made with a real emerge, is one clear line that says what would be right."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import CommandFailed, GoldspawnError
from pipeline.portage import Emerge, resolution, resolve
from pipeline.portage.installed import installed
from tests.portage.world import World

BIG = """\
S="${WORKDIR}"
src_install() {
    dd if=/dev/zero of=big bs=1M count=8 status=none
    insinto /usr/share
    doins big
}
"""


@pytest.fixture
def small_disk(world: World, tmp_path: Path) -> Iterator[Path]:
    """The target, on a disk of its own with three megabytes."""
    kept = world.target.rename(tmp_path / "kept")
    world.target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", world.target], check=True)
    try:
        shutil.copytree(kept, world.target, symlinks=True, dirs_exist_ok=True)
        yield world.target
    finally:
        subprocess.run(["umount", world.target], check=True)


def told(world: World, *sets: str) -> tuple[str, str]:
    """What a resolution of the sets fails with: the line and the hint."""
    with pytest.raises(GoldspawnError) as caught:
        resolution(world.emerge(), sets or ("@system",))
    assert "Traceback" not in str(caught.value)
    return caught.value.message, caught.value.hint or ""


def failed(world: World, *sets: str) -> str:
    """The first line that a user sees of a merge that fails."""
    with pytest.raises(GoldspawnError) as caught:
        resolve(world.emerge(), sets or ("@system",))
    return str(caught.value).splitlines()[0]


def test_an_atom_that_no_repository_has(world: World) -> None:
    line, hint = told(world, "dev-libs/nothing")
    assert line == "no repository has dev-libs/nothing"
    assert "repos.conf" in hint


def test_a_dependency_that_no_repository_has_names_who_needs_it(world: World) -> None:
    world.ebuild("app-misc/a", depend="dev-libs/nothing", system=True)
    line, _ = told(world)
    assert line == "no repository has dev-libs/nothing, which app-misc/a-1::tiny needs"


def test_what_is_no_atom(world: World) -> None:
    assert told(world, "bad//atom")[0] == '"bad//atom" is no package atom'


def test_an_unknown_set(world: World) -> None:
    assert told(world, "@everything")[0] == "there is no set everything"


def test_a_masked_package(world: World) -> None:
    world.ebuild("app-misc/a", system=True)
    world.configure("package.mask", "app-misc/a\n")
    line, hint = told(world)
    assert line == "app-misc/a: app-misc/a-1 is masked by package.mask"
    assert hint == 'add "=app-misc/a-1" to package.unmask, or name another'


def test_a_missing_keyword(world: World) -> None:
    world.ebuild("app-misc/a", keywords="~amd64", system=True)
    line, hint = told(world)
    assert line == "app-misc/a: app-misc/a-1 is not keyworded for this architecture (~amd64 keyword)"
    assert hint == 'add "=app-misc/a-1 ~amd64" to package.accept_keywords'


def test_a_missing_licence(world: World) -> None:
    world.ebuild("app-misc/a", system=True)
    make = world.target / "etc/portage/make.conf"
    make.write_text(make.read_text() + 'ACCEPT_LICENSE="-*"\n')
    line, hint = told(world)
    assert line == "app-misc/a: the licence of app-misc/a-1 is not accepted (Free)"
    assert 'add "=app-misc/a-1 Free" to package.license' in hint


def test_use_flags_that_contradict_each_other(world: World) -> None:
    world.ebuild("app-misc/a", iuse="+x +y", more='REQUIRED_USE="^^ ( x y )"\n', system=True)
    line, _ = told(world)
    assert line == "the USE flags of app-misc/a-1 contradict each other: it requires exactly-one-of ( x y )"


def test_two_versions_that_do_not_fit_into_one_slot(world: World) -> None:
    for version in ("1", "2"):
        world.ebuild("dev-libs/lib", version)
    world.ebuild("app-misc/a", depend="=dev-libs/lib-1", rdepend="=dev-libs/lib-1", system=True)
    world.ebuild("app-misc/b", depend="=dev-libs/lib-2", rdepend="=dev-libs/lib-2", system=True)
    line, _ = told(world)
    assert line.startswith("dev-libs/lib:0: dev-libs/lib-")
    assert "cannot both be installed" in line


def test_packages_that_block_each_other(world: World) -> None:
    world.ebuild("app-misc/a", rdepend="!!app-misc/b", system=True)
    world.ebuild("app-misc/b", system=True)
    line, _ = told(world)
    assert "block" in line
    assert "app-misc/a-1" in line


def test_a_file_that_cannot_be_fetched(world: World) -> None:
    world.ebuild("app-misc/a", more='SRC_URI="file:///nowhere/a-1.tar"\n', system=True)
    world.write("app-misc/a/Manifest", f"DIST a-1.tar 3 SHA512 {'0' * 128} BLAKE2B {'0' * 128}\n")
    assert failed(world) == "a-1.tar could not be fetched"


def test_a_file_that_is_not_the_one_of_the_manifest(world: World) -> None:
    world.ebuild("app-misc/a", more='SRC_URI="file:///nowhere/a-1.tar"\n', system=True)
    world.write("app-misc/a/Manifest", f"DIST a-1.tar 3 SHA512 {'0' * 128} BLAKE2B {'0' * 128}\n")
    (world.distfiles / "a-1.tar").write_text("abc")
    line = failed(world)
    assert line == f"a fetched file is not the one that the Manifest describes: {world.distfiles}/a-1.tar"


def test_a_compile_failure(world: World) -> None:
    world.library("plain")
    world.write("dev-libs/plain/files/plain.c", "int broken(\n")
    assert failed(world).startswith("dev-libs/plain-1 failed in its compile phase: ")


def test_a_full_disk_is_told_and_nothing_half_merged_survives(world: World, small_disk: Path) -> None:
    """emerge says that it completed the package; its status and its database say the truth."""
    world.ebuild("app-misc/big", body=BIG, system=True)
    assert failed(world) == "no space is left where emerge writes"
    assert ">>> Completed (1 of 1) app-misc/big-1" in "\n".join(world.lines)
    assert not installed(world.target)
    subprocess.run(["mount", "-o", "remount,size=32m", small_disk], check=True)
    resolve(world.emerge(), ["@system"])
    assert set(installed(world.target)) == {"app-misc/big-1"}
    assert (world.target / "usr/share/big").stat().st_size == 8 << 20
    assert not list((world.target / "var/db/pkg").glob("*/-MERGING-*"))
    assert not list((world.target / "usr/share").glob("*#new"))


def test_a_failure_is_told_by_the_end_of_its_own_build_log(world: World) -> None:
    """With two jobs emerge prints neither the compiler's words nor the log, and names a file of the builder's."""
    for name in ("one", "two"):
        world.library(name)
        world.write(f"dev-libs/{name}/files/{name}.c", "int broken(\n")
        ebuild = world.repository / f"dev-libs/{name}/{name}-1.ebuild"
        told = f"src_compile() {{\n    printf 'compiling {name} %s\\n' {{1..100}}\n"
        ebuild.write_text(ebuild.read_text().replace("src_compile() {\n", told))
    with pytest.raises(CommandFailed) as caught:
        world.emerge("--jobs=2").merge("dev-libs/one", "dev-libs/two")
    shown = str(caught.value)
    first = re.match(r"dev-libs/(one|two)-1 failed in its compile phase: \S+\1.c:1:\d+: error: expected", shown)
    assert first is not None, shown
    assert "hint: its whole build.log stands in the log" in shown
    assert f"compiling {first[1]} 100" in shown and f"compiling {first[1]} 1\n" not in shown
    assert "If you need support" not in shown
    assert f"whole log: {world.folder}/log" in shown
    assert "\x1b" not in shown
    kept = (world.folder / "log").read_text()
    assert "build.log of dev-libs/one-1:" in kept and "build.log of dev-libs/two-1:" in kept
    assert kept.count("compiling one 50\n") == kept.count("compiling two 50\n") == 1


def test_a_build_log_that_emerge_prints_is_not_kept_twice(world: World) -> None:
    world.library("plain")
    world.write("dev-libs/plain/files/plain.c", "int broken(\n")
    assert "plain.c:1:" in failed(world)
    assert (world.folder / "log").read_text().count("plain.c:1:1: error:") == 1


def test_a_broken_repos_conf(world: World) -> None:
    world.ebuild("app-misc/a", system=True)
    world.configure("repos.conf", "location = /nowhere\n")
    assert told(world)[0] == "repos.conf cannot be read"


def test_a_repository_that_is_not_there(world: World) -> None:
    world.configure("repos.conf", "[DEFAULT]\nmain-repo = gone\n[gone]\nlocation = /nowhere/gone\nauto-sync = no\n")
    line, hint = told(world, "app-misc/a")
    assert line == "no repository has app-misc/a"
    assert "/nowhere/gone" in hint


def test_a_profile_whose_parent_is_missing(world: World) -> None:
    world.write("profiles/base/parent", "../nothing\n")
    line, _ = told(world)
    assert line.startswith("the profile has a parent that does not exist: ")
    assert "nothing" in line


def test_no_profile(world: World) -> None:
    (world.target / "etc/portage/make.profile").unlink()
    assert told(world)[0] == "the profile is invalid, or there is none"


def test_no_emerge(tmp_path: Path) -> None:
    with pytest.raises(GoldspawnError) as caught:
        resolution(Emerge(str(tmp_path), tmp_path, programs="/nowhere/bin"), ["@system"])
    assert "/nowhere/bin/emerge" in str(caught.value)


def test_the_command_line_says_it_in_one_line(world: World) -> None:
    words = [sys.executable, "-m", "pipeline.portage", "plan", f"--emerge={world.builder}/bin/emerge",
             f"--root={world.target}", "dev-libs/nothing"]  # fmt: skip
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[0] == "no repository has dev-libs/nothing"
