"""The seal: what ships has no identity, and what two machines of one image make of it is their own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.artifact import walk
from pipeline.build import Build, Wishes, open_build
from pipeline.image import load
from pipeline.machine import Machine, verified
from pipeline.place import Place
from pipeline.profile import Pool, apply, packages, seal
from pipeline.profile.seal import unsealed
from pipeline.reuse.plan import Policy
from pipeline.user_cache import exchange
from pipeline.workspace import Workspace, open_workspace
from tests.conftest import SMALL, Sessions

WITH_SSH = f"""
{SMALL}
[profile]
packages = ["openssh-server"]
"""


@pytest.fixture(scope="module")
def sealed(bootstrapped: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Build, Workspace]]:
    """An image with an ssh server, sealed."""
    folder = tmp_path_factory.mktemp("sealed")
    image = load(Sessions(folder).image("identity", WITH_SSH))
    with open_build(image, bootstrapped, Wishes(folder / "artifacts", exchange())) as build:
        workspace = open_workspace(
            image, bootstrapped, build.keys, build.zfs, policy=Policy(max_age=40000.0), wait=print
        )
        with workspace.fill_tree() as root:
            pool = Pool(folder / "pool")
            names = image.profile.packages
            packages.install(root, names, pool=pool, log=build.log, slowness=bootstrapped.slowness, current=True)
            apply(image, root, log=build.log, slowness=bootstrapped.slowness)
            (root / "var/cache/apt/archives/left.deb").touch()
            seal(root, log=build.log)
        yield build, workspace
        build.zfs.destroy(workspace.tree)
        workspace.close()


def test_a_sealed_tree_holds_no_identity(sealed: tuple[Build, Workspace]) -> None:
    build, workspace = sealed
    with build.zfs.mounted(workspace.candidate, build.place.mountpoint("looked-at"), readonly=True) as root:
        assert unsealed(root) == []
        assert (root / "etc/machine-id").read_text() == "uninitialized\n"
        assert (root / "etc/hostname").read_text() == "identity\n"
        assert not list(root.glob("etc/ssh/ssh_host_*"))


def test_two_machines_of_one_image_make_identities_of_their_own(
    sealed: tuple[Build, Workspace], tmp_path: Path
) -> None:
    build, workspace = sealed
    made = [_boot(build, workspace) for _ in range(2)]
    both = made[0].keys() & made[1].keys()
    assert "etc/machine-id" in both
    assert any(name.startswith("etc/ssh/ssh_host_") for name in both), sorted(both)
    same = {name for name in both if made[0][name] == made[1][name]}
    assert {name for name in same if not _harmless(name, made[0][name])} == set()
    with build.zfs.mounted(workspace.candidate, build.place.mountpoint("searched"), readonly=True) as root:
        for files in made:
            machine_id = files["etc/machine-id"].decode().strip()
            found = subprocess.run(["grep", "-rlF", machine_id, str(root)], capture_output=True, text=True)
            assert found.stdout == ""
        for name in both:
            if name.startswith("etc/ssh/ssh_host_"):
                assert not (root / name).exists()


def _boot(build: Build, workspace: Workspace) -> dict[str, bytes]:
    """Boots a clone until it is healthy, and returns the files that it made or changed, with their contents."""
    with workspace.booting_clone() as (name, directory):
        machine = Machine(name, directory, build.image.boot, build.log, build.place.slowness, verified(build.image))
        try:
            machine.start()
            machine.judge()
        finally:
            machine.stop()
        with build.zfs.mounted(workspace.candidate, build.place.mountpoint("before"), readonly=True) as before:
            old = {entry.path: entry for entry in walk.entries(before)}
            names = [entry.path.decode() for entry in walk.entries(directory) if old.get(entry.path) != entry]
        paths = {name: directory / name for name in names}
        return {name: path.read_bytes() for name, path in paths.items() if path.is_file() and not path.is_symlink()}


def _harmless(name: str, content: bytes) -> bool:
    """What may be equal in two machines: empty files, and caches that depend on the tree alone."""
    caches = ("etc/.updated", "var/.updated", "etc/ld.so.cache", "var/cache/ldconfig/", "etc/udev/hwdb.bin")
    return not content.strip() or name.startswith((*caches, "var/lib/systemd/catalog/"))
