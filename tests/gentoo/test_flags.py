"""What an image's own configuration says of compilers, jobs and binary packages, whichever file says it."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from pipeline.command import BuildLog
from pipeline.gentoo.folders import make_merged
from pipeline.gentoo.host import HostPortage
from pipeline.gentoo.merge import merge_sets
from pipeline.gentoo.resolved import Resolved
from pipeline.image import load
from pipeline.machine.settings import shipped
from tests.gentoo.conftest import changed
from tests.gentoo.definition import definition
from tests.portage.world import FEATURES, World

TELLS = """\
S="${WORKDIR}"
src_compile() { echo "${CFLAGS}" > cflags; echo "${MAKEOPTS}" > makeopts; }
src_install() { insinto /usr/share/font; doins cflags makeopts; }
"""
"""A package that keeps what it was built with."""


def told(world: World, name: str) -> str:
    return (world.target / "usr/share/font" / name).read_text().strip()


def packages(host: HostPortage) -> dict[str, set[str]]:
    """The packages of each folder of the store."""
    folders = sorted(host.store.folder.glob("binpkgs/*"))
    return {one.name: {path.parent.name for path in one.rglob("*.gpkg.tar")} for one in folders}


def test_binary_packages_of_other_compiler_flags_are_not_taken(host: HostPortage, world: World) -> None:
    """Each set of flags has a folder, by its name, which is a binhost as it is; the host's own is of the host's."""
    world.ebuild("dev-libs/font", body=TELLS)
    conf = 'ACCEPT_LICENSE = "*"'
    first = changed(host, world, (conf, f'{conf}, CFLAGS = "-O3 -march=native"'))
    merge_sets(first, world.target)
    assert told(world, "cflags") == "-O3 -march=native"
    second = changed(first, world, ("-O3 -march=native", "-O2 -pipe"))
    merge_sets(second, world.target)
    assert told(world, "cflags") == "-O2 -pipe"
    built = packages(host)
    assert [name.rpartition("-")[0] for name in built] == [
        "x86_64-pc-linux-gnu_O2_pipe", "x86_64-pc-linux-gnu_O3_march=native",
    ]  # fmt: skip
    assert list(built.values()) == [{"font", "shop"}, {"font", "shop"}]
    assert all((host.store.folder / "binpkgs" / name / "Packages").is_file() for name in built)
    world.lines.clear()
    merge_sets(changed(second, world, ("-O2 -pipe", "-O3  -march=native")), world.target)
    assert told(world, "cflags") == "-O3 -march=native"
    assert not any(">>> Emerging (" in line for line in world.lines), "they are at hand"
    assert not list(world.packages.rglob("*.gpkg.tar")), "the host's are of other flags"
    merge_sets(changed(second, world, (', CFLAGS = "-O3  -march=native"', "")), world.target)
    assert list(world.packages.glob("dev-libs/font/*"))
    assert packages(host) == built


def test_what_is_built_otherwise_for_single_packages_is_kept_apart(tmp_path: Path) -> None:
    names = set()
    for path in ("", "package.env", "env/fast", "patches/app-misc/app/fix.patch", "bashrc"):
        etc = tmp_path / (path.replace("/", "-") or "none")
        (etc / path).parent.mkdir(parents=True, exist_ok=True)
        if path:
            (etc / path).write_text("x\n")
        names.add(Resolved({"CHOST": "x"}, frozenset(), Resolved.digest_of(etc)).packages)
    assert len(names) == 5


@pytest.mark.parametrize("by", ["image.toml", "file", "directory"])
def test_makeopts_and_features_are_those_of_the_image(by: str, host: HostPortage, world: World, tmp_path: Path) -> None:
    world.ebuild("dev-libs/font", body=TELLS)
    conf = f'FEATURES="{FEATURES} -buildpkg"\nMAKEOPTS="-j3"\n'
    if by == "image.toml":
        edit = ("make_conf = {", 'make_conf = { MAKEOPTS = "-j3",'), (FEATURES, f"{FEATURES} -buildpkg")
    else:
        edit = ("make_conf = {", 'portage = "portage"\nmake_conf = {'), (f'FEATURES = "{FEATURES}", ', "")
        file = host.image.folder / "portage/make.conf" / ("own" if by == "directory" else "")
        file.parent.mkdir(parents=True)
        file.write_text(conf)
    merge_sets(changed(host, world, *edit), world.target)
    assert told(world, "makeopts") == "-j3"
    assert not list(tmp_path.rglob("*.gpkg.tar"))


def test_without_a_word_of_the_image_makeopts_are_from_the_machine(host: HostPortage, world: World) -> None:
    world.ebuild("dev-libs/font", body=TELLS)
    merge_sets(host, world.target)
    assert told(world, "makeopts").startswith("-j")
    assert " -l" in told(world, "makeopts")


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ('FEATURES="-buildpkg"', {"buildpkg"}),
        ('FEATURES="a\n  -getbinpkg b"\nFEATURES="-buildpkg ${FEATURES}"', {"getbinpkg", "buildpkg"}),
        ('# FEATURES="-buildpkg"\nUSE="-buildpkg"', set()),
        ('FEATURES="-buildpkg"\nFEATURES="buildpkg"', set()),
    ],
)
def test_words_against_features_of_ours(text: str, refused: set[str], tmp_path: Path) -> None:
    (tmp_path / "make.conf").write_text(text + "\n")
    assert Resolved.refused_by(tmp_path) == refused


def test_with_share_the_machine_keeps_its_packages_beside_those_of_other_flags(host: HostPortage, world: World) -> None:
    world.library("font")
    conf = 'ACCEPT_LICENSE = "*"'
    shared = changed(host, world, (conf, f'{conf}, CFLAGS = "-O3"'), ("sets =", "share = true\nsets ="))
    for _ in range(2):
        merge_sets(shared, world.target)
        (name,) = packages(host)
        assert (world.target / "etc/portage/make.conf").read_text().count("PKGDIR") == 1
        assert f'PKGDIR="/var/cache/binpkgs/{name}"\n' in (world.target / "etc/portage/make.conf").read_text()


@pytest.mark.parametrize("private", [False, True])
def test_with_share_the_machines_settings_bind_what_is_shared(private: bool, host: HostPortage, world: World) -> None:
    assert not {"Bind", "BindReadOnly"} & {key for key, _ in shipped(host.image).sections["Files"]}
    users = f"[boot]\nprivate_users = {str(private).lower()}\n[bootstrap]"
    files = shipped(changed(host, world, ("sets =", "share = true\nsets ="), ("[bootstrap]", users)).image).sections[
        "Files"
    ]
    bound = [(key, value) for key, value in files if key.startswith("Bind")]
    end = {
        path: f":{path}:idmap" if private else ""
        for path in ("/var/db/repos", "/var/cache/distfiles", "/var/cache/binpkgs")
    }
    assert bound == [
        ("BindReadOnly", f"/var/db/repos{end['/var/db/repos']}"),
        ("Bind", f"/var/cache/distfiles{end['/var/cache/distfiles']}"),
        ("Bind", f"/var/cache/binpkgs{end['/var/cache/binpkgs']}"),
    ]


@pytest.mark.usefixtures("made")
def test_a_builder_keeps_its_own_binary_packages_apart(tars: Path, tmp_path: Path) -> None:
    """Its flags are others than the target's; the second time its tools come from there."""
    overlay = tmp_path / "image/overlay"
    ebuild = 'EAPI=8\nDESCRIPTION="x"\nSLOT=0\nKEYWORDS="amd64"\n'
    for path, text in {
        "metadata/layout.conf": "masters = tiny\nthin-manifests = true\nprofile-formats = portage-2\n",
        "profiles/repo_name": "local\n",
        "profiles/here/eapi": "8\n",
        "profiles/here/parent": "tiny:default\n",
        "app-misc/gen/gen-1.ebuild": f"{ebuild}{TELLS.replace('/font', '/gen')}",
        "app-misc/shop/shop-1.ebuild": f'{ebuild}BDEPEND="app-misc/gen"\nS="${{WORKDIR}}"\n'
        "src_install() { insinto /usr/share/shop; newins /usr/share/gen/makeopts of-gen; }\n",
    }.items():
        file = overlay / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    store = tars.parent / "portage/binpkgs"
    for number, flags in enumerate(("-O3 -march=native", "-O2")):
        text = definition(
            "app-misc/shop",
            profile="local:here",
            local='folder = "overlay"',
            more=f'make_conf = {{ CFLAGS = "{flags}" }}',
        )
        (tmp_path / "image/image.toml").write_text(text)
        with BuildLog(tmp_path / f"log{number}") as log:
            make_merged(load(tmp_path / "image"), tars / f"{number}.tar", log=log, max_age=86400.0, slowness=3.0)
        assert "2 of 2, app-misc/shop-1" in (tmp_path / f"log{number}").read_text()
    built = {one.name.rpartition("-")[0]: sorted(file.name for file in one.rglob("*.tar")) for one in store.iterdir()}
    assert built == {
        "x86_64-pc-linux-gnu": ["gen-1-1.gpkg.tar"],
        "x86_64-pc-linux-gnu_O3_march=native": ["shop-1-1.gpkg.tar"],
        "x86_64-pc-linux-gnu_O2": ["shop-1-1.gpkg.tar"],
    }
    with tarfile.open(tars / "1.tar") as archive:
        of_gen = archive.extractfile("./usr/share/shop/of-gen")
        assert of_gen is not None
        assert b" -l" in of_gen.read()
