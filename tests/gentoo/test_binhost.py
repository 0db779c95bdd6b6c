"""The index that our builds fill, offered by a web server as it is: taken from, alone if asked, and signed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.errors import GoldspawnError
from pipeline.gentoo.host import HostPortage
from pipeline.gentoo.merge import merge_sets
from pipeline.image import load
from pipeline.portage import configuration
from pipeline.portage.installed import installed
from tests.portage.world import FEATURES, World


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A web server for a folder on the loopback: its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def fill(host: HostPortage, world: World, variables: Mapping[str, str]) -> Path:
    """Merges the image and returns the PKGDIR, moved away. After that no library compiles any more."""
    merge_sets(replace(host, variables={**host.variables, **variables}), world.target)
    served = world.packages.rename(world.folder / "served")
    world.packages.mkdir()
    for source in world.repository.glob("dev-libs/*/files/*.c"):
        source.write_text("int broken(\n")
    return served


def taking(host: HostPortage, world: World, uri: str, *, verify: bool, home: Path, binary: str = "only") -> HostPortage:
    """The workshop for an image that takes binary packages only, from there; its target is empty again."""
    file = host.image.folder / "image.toml"
    binhost = f'binhosts = [{{ uri = "{uri}", verify = {str(verify).lower()} }}]'
    file.write_text(file.read_text().replace("sets =", f'binary = "{binary}"\n{binhost}\nsets ='))
    shutil.rmtree(world.target)
    image = load(host.image.folder)
    configuration.write(replace(host, image=image).settings.configuration(), world.target)
    kept = world.target / "etc/portage/binrepos.conf/goldspawn.conf"
    kept.write_text(f"{kept.read_text()}location = {world.folder}/fetched\n")
    return replace(host, image=image, variables={**host.variables, **trusting(home)})


def keyring(home: Path, name: str) -> Path:
    """A new folder for gpg, with one key."""
    home.mkdir(mode=0o700)
    argv = ["gpg", "--batch", "--homedir", home, "--passphrase", "", "--quick-generate-key", f"{name}@x", "ed25519"]
    subprocess.run(argv, check=True, capture_output=True)
    subprocess.run(["gpg", "--batch", "--homedir", home, "--check-trustdb"], check=True, capture_output=True)
    return home


@pytest.fixture
def keys(world: World) -> Iterator[Mapping[str, Path]]:
    """Those of our builds and of somebody else."""
    homes = {name: keyring(world.folder / name, name) for name in ("ours", "theirs")}
    try:
        yield homes
    finally:
        for home in homes.values():
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)


def trusting(home: Path) -> dict[str, str]:
    """What makes Portage trust the keys of a folder. It verifies as `nobody`, who cannot look into a test's folder."""
    dropped = {"GPG_VERIFY_USER_DROP": "", "GPG_VERIFY_GROUP_DROP": ""}
    return {"BINPKG_GPG_VERIFY_GPG_HOME": str(home), "PORTAGE_TRUST_HELPER": "true", **dropped}


def signing(home: Path) -> dict[str, str]:
    """What makes Portage sign packages; it verifies each at once."""
    return {
        **trusting(home),
        "FEATURES": "buildpkg binpkg-multi-instance binpkg-signing notitles",
        "BINPKG_GPG_SIGNING_KEY": f"{home.name}@x",
        "BINPKG_GPG_SIGNING_GPG_HOME": str(home),
    }


def test_what_builds_fill_is_a_binhost_as_it_is(host: HostPortage, world: World) -> None:
    """With a ring: the member that was built for the break, and merged as a binary package, is not among them."""
    world.library("font", must=["shape"])
    world.library("shape", may=["font"], system=False)
    with serving(fill(host, world, {})) as uri:
        workshop = taking(host, world, uri, verify=False, home=world.folder)
        world.lines.clear()
        outcome = merge_sets(workshop, world.target)
    assert outcome.breaks == (), "binary packages need nothing to be built"
    assert set(installed(world.target)) == {"app-misc/shop-1", "dev-libs/font-1", "dev-libs/shape-1"}
    assert world.needed("shape") == {"font"}
    assert {line for line in world.lines if ">>> Emerging (" in line} == set()


@pytest.mark.parametrize("features", ["", "getbinpkg"])
def test_never_means_that_not_even_the_ones_of_a_binhost_are_taken(
    host: HostPortage, world: World, features: str
) -> None:
    world.ebuild(
        "dev-libs/font", body='S="${WORKDIR}"\nsrc_install() { insinto /usr/share; doins "${FILESDIR}/font"; }\n'
    )
    world.write("dev-libs/font/files/font", "of the binhost\n")
    with serving(fill(host, world, {})) as uri:
        world.write("dev-libs/font/files/font", "from source\n")
        workshop = taking(host, world, uri, verify=False, home=world.folder, binary="never")
        (world.target / "etc/portage/make.conf").open("a").write(f'FEATURES="{FEATURES} {features}"\n')
        merge_sets(workshop, world.target)
    assert (world.target / "usr/share/font").read_text() == "from source\n"


def test_only_binary_packages_means_that_without_them_nothing_is_merged(host: HostPortage, world: World) -> None:
    world.library("font")
    (world.folder / "empty").mkdir()
    with serving(world.folder / "empty") as uri, pytest.raises(GoldspawnError) as caught:
        merge_sets(taking(host, world, uri, verify=False, home=world.folder), world.target)
    assert str(caught.value).splitlines()[0] == "no repository has app-misc/shop"
    assert not installed(world.target)


def test_a_signature_by_a_key_that_the_host_has_is_right_and_another_is_refused(
    host: HostPortage, world: World, keys: Mapping[str, Path]
) -> None:
    world.library("font")
    with serving(fill(host, world, signing(keys["ours"]))) as uri:
        wrong = taking(host, world, uri, verify=True, home=keys["theirs"])
        with pytest.raises(GoldspawnError) as caught:
            merge_sets(wrong, world.target)
        assert " has a signature by none of the keys that this Portage trusts\n" in str(caught.value)
        assert not installed(world.target)
        right = replace(wrong, variables={**wrong.variables, "BINPKG_GPG_VERIFY_GPG_HOME": str(keys["ours"])})
        merge_sets(right, world.target)
    assert set(installed(world.target)) == {"app-misc/shop-1", "dev-libs/font-1"}


def test_a_package_without_signature_is_refused(host: HostPortage, world: World, keys: Mapping[str, Path]) -> None:
    world.library("font")
    with serving(fill(host, world, {})) as uri, pytest.raises(GoldspawnError) as caught:
        merge_sets(taking(host, world, uri, verify=True, home=keys["ours"]), world.target)
    assert "gpkg.tar has no signature\n" in str(caught.value)
    assert not installed(world.target)
