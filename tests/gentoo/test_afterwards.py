"""What comes after the sets: nothing stays that nothing needs, and the environment is that of all that was merged."""

from __future__ import annotations

from pipeline.gentoo.host import HostPortage
from pipeline.gentoo.merge import merge_sets
from pipeline.portage.installed import installed
from tests.portage.world import World


def test_what_nothing_needs_any_more_is_cleaned_away(host: HostPortage, world: World) -> None:
    world.library("font", system=False)
    world.library("once", system=False)
    with host.target(world.target) as (emerge, _):
        emerge.merge("--oneshot", "dev-libs/once")
    assert "dev-libs/once-1" in installed(world.target)
    merge_sets(host, world.target)
    assert set(installed(world.target)) == {"app-misc/shop-1", "dev-libs/font-1"}
    assert not (world.target / "usr/lib/libonce.so.1").exists()


def test_a_library_that_was_preserved_is_gone_when_its_users_were_built_again(host: HostPortage, world: World) -> None:
    """Without :=, nobody but Portage's list of preserved libraries knows that `font` still needs the old one."""
    (world.builder / "usr/bin").mkdir(parents=True, exist_ok=True)
    (world.builder / "usr/bin/scanelf").symlink_to("/usr/bin/scanelf")  # Portage looks for it in its own /
    world.library("shape", system=False)
    world.library("font", must=["shape"], system=False, depend="dev-libs/shape")
    merge_sets(host, world.target)
    body = (world.repository / "dev-libs/shape/shape-1.ebuild").read_text()
    newer = body.replace('SLOT="0/1"', 'SLOT="0/2"').replace("libshape.so.1", "libshape.so.2")
    (world.repository / "dev-libs/shape/shape-2.ebuild").write_text(newer)
    with host.target(world.target) as (emerge, _):
        emerge.merge("--oneshot", "--buildpkg=n", "dev-libs/shape")
    assert (world.target / "usr/lib/libshape.so.1").exists(), "Portage preserves what font is linked with"
    merge_sets(host, world.target)
    assert not (world.target / "usr/lib/libshape.so.1").exists()
    assert b"libshape.so.2" in (world.target / "usr/lib/libfont.so.1").read_bytes()


def test_the_environment_is_that_of_what_was_merged(host: HostPortage, world: World) -> None:
    world.library("font", system=False)
    ebuild = world.repository / "dev-libs/font/font-1.ebuild"
    ebuild.write_text(
        ebuild.read_text().replace(
            "src_install() {", 'src_install() {\n    newenvd - 50font <<< "FONTS=/usr/share/fonts"'
        )
    )
    merge_sets(host, world.target)
    assert "export FONTS='/usr/share/fonts'" in (world.target / "etc/profile.env").read_text()
