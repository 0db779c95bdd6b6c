"""Versions of an image: each descends from the one before, hosts take the steps between them, and both ends agree."""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.artifact import __main__ as command_line
from pipeline.artifact import index, manifest, tree, verify, walk
from pipeline.build import Wishes, open_build
from pipeline.command import run
from pipeline.export import export
from pipeline.image import load
from pipeline.lineage import sending
from pipeline.place import Place
from pipeline.reuse.inputs import keys
from pipeline.reuse.plan import Policy
from pipeline.user_cache import exchange
from pipeline.workspace import Workspace, open_workspace
from pipeline.zfs import Zfs
from tests.conftest import SMALL, Sessions

PART = SMALL + '[artifact]\ncompression = "zstd-4"\n'
"""An image with a bootstrap of its own, for which a part of that of `SMALL` will do."""

Change = Callable[[Path], object]


def write(path: str, text: str) -> Change:
    return lambda root: (root / path).write_text(text)


@dataclass
class Builder:
    """Makes versions of the image `walker` as a session would, but for packages, a boot and checks."""

    sessions: Sessions
    place: Place
    zfs: Zfs = field(default_factory=Zfs)
    made: list[manifest.Manifest] = field(default_factory=list)
    said: str = ""
    """Why the last export left out a delta."""

    @property
    def golden(self) -> str:
        return f"{self.place.layout.golden}/walker"

    @property
    def folder(self) -> Path:
        return self.sessions.artifacts / "walker"

    def version(self, change: Change) -> manifest.Manifest:
        """The next version: the clean bootstrap with `change` made to it, grafted and exported."""
        image = load(self.sessions.image("walker", PART, root={"etc/build": uuid.uuid4().hex}))
        wishes = Wishes(self.sessions.artifacts, exchange(), deltas=("previous",), policy=Policy(max_age=40000.0))
        with open_build(image, self.place, wishes) as build:
            workspace = open_workspace(image, self.place, build.keys, build.zfs, policy=wishes.policy, wait=print)
            try:
                if not workspace.start.holds("bootstrap"):
                    self.bootstrap(workspace)
                with workspace.fill_tree() as root:
                    change(root)
                self.made.append(export(build, workspace.promote(wishes.listings), []))
                self.said = build.notes["deltas"]
            finally:
                workspace.close()
        return self.made[-1]

    def bootstrap(self, workspace: Workspace) -> None:
        """A part of the small Debian: under emulation, to read all of it takes half a minute each time."""
        key = keys(load(self.sessions.image("small"))).bootstrap
        listed = self.zfs.entries(self.place.layout.bootstraps)
        whole = next(one.name for one in listed if one.properties.get("inputs") == key)
        with (
            self.zfs.mounted(whole, self.place.mountpoint(whole)) as debian,
            workspace.filling("bootstrap") as layer,
        ):
            parts = ["etc", "usr/bin", "var/lib/dpkg", "bin"]
            run(["cp", "-a", "--parents", *parts, str(layer.tree)], cwd=debian, timeout=600)

    def clear(self) -> None:
        """Forgets all that was made."""
        self.zfs.destroy(self.golden)
        self.zfs.destroy(f"{self.place.layout.work}/walker")
        for one in self.zfs.entries(self.place.layout.bootstraps, depth=1):
            if one.kind == "filesystem" and self.zfs.get(one.name, "compression") == "zstd-4":
                self.zfs.destroy(one.name)


@pytest.fixture(scope="module")
def walked(bootstrapped: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """Four versions of a Debian, each with a delta from the one before; the first one's stream is in first.zfs."""
    builder = Builder(Sessions(tmp_path_factory.mktemp("walked")), bootstrapped)
    builder.clear()
    noise = os.urandom(6 << 20)

    def linked(root: Path) -> None:
        (root / "etc/motd").unlink()
        (root / "etc/motd").symlink_to("issue")
        (root / "usr/bin/also-env").hardlink_to(root / "usr/bin/env")
        (root / "etc/big").write_bytes(noise[: 3 << 20])

    def grown(root: Path) -> None:
        (root / "etc/issue").unlink()
        (root / "etc/motd").unlink()
        (root / "etc/motd").mkdir()
        (root / "etc/big").write_bytes(noise)

    for change in (write("etc/motd", "one"), write("etc/motd", "two"), linked, grown):
        made = builder.version(change)
        if len(builder.made) == 1:
            (builder.sessions.artifacts / "first.zfs").hardlink_to(builder.folder / made.stream.file)
    yield builder
    builder.clear()


@contextlib.contextmanager
def pool(folder: Path) -> Iterator[str]:
    """A pool in a file, for a host or a builder of its own."""
    name = f"road-{uuid.uuid4().hex[:8]}"
    with (folder / name).open("wb") as handle:
        handle.truncate(4 << 30)
    properties = ("mountpoint=none", "acltype=posix", "xattr=sa", "atime=off", "compression=zstd")
    options = [word for one in properties for word in ("-O", one)]
    run(["zpool", "create", *options, "-o", "cachefile=none", name, str(folder / name)], timeout=120)
    try:
        yield name
    finally:
        run(["zpool", "destroy", "-f", name], timeout=120)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dataset of a host's machines."""
    with pool(tmp_path_factory.mktemp("host")) as name:
        run(["zfs", "create", f"{name}/machines"], timeout=60)
        yield f"{name}/machines"


def shell(command: str, folder: Path) -> str:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, check=True, capture_output=True, text=True, timeout=600
    ).stdout


def choice(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What `python -m pipeline.artifact choose` prints."""
    assert command_line.main(["choose", *map(str, arguments)]) == 0
    return capsys.readouterr().out.strip()


def test_a_delta_is_of_the_size_of_the_change(walked: Builder) -> None:
    small, large, half = (made.deltas[0] for made in walked.made[1:])
    assert small.size < 100_000 < walked.made[1].stream.size / 100
    assert 3 << 20 < large.size < (3 << 20) + 200_000
    assert 3 << 20 < half.size < (3 << 20) + 300_000, "of the file that doubled, what was there is not sent again"
    assert small.origin.version == walked.made[0].version


def test_a_graft_leaves_one_snapshot_a_bookmark_of_each_earlier_version_and_no_candidate(walked: Builder) -> None:
    versions = [made.version for made in walked.made]
    points = sending.points(walked.zfs, walked.golden)
    assert [point.version for point in points if point.bookmarked] == versions[:3]
    assert [point.version for point in points if not point.bookmarked] == versions[3:]
    assert [point.guid for point in points] == [made.snapshot.guid for made in walked.made]
    assert not walked.zfs.exists(f"{walked.place.layout.work}/walker")


def test_the_folder_is_whole_and_its_index_names_all_that_is_in_it(walked: Builder) -> None:
    assert verify.check(walked.folder) == walked.made[3]
    listed = index.load(walked.folder)
    assert [version.version for version in listed.versions] == [made.version for made in walked.made[1:]]
    assert sorted(stream.file for stream in listed.streams) == sorted(path.name for path in walked.folder.glob("*.zfs"))
    assert shell("sha256sum -c SHA256SUMS", walked.folder).count(": OK\n") == len(listed.streams) == 4


def test_a_host_that_walks_by_deltas_ends_where_one_does_that_takes_all(
    walked: Builder, host: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    zfs, last = walked.zfs, walked.made[3]
    shell(f"zfs recv -u {host}/walker < first.zfs", walked.sessions.artifacts)
    deltas = [made.deltas[0] for made in walked.made[1:]]
    said = choice(capsys, walked.folder, host)
    assert said.startswith(f"{deltas[0].file} (") and f", then {deltas[1].file} (" in said and deltas[2].file in said
    for delta in deltas[:2]:
        shell(delta.receive.replace("tank/machines", host), walked.folder)
    cut_and_resumed(deltas[2], f"{host}/walker", walked)
    assert choice(capsys, walked.folder, host) == f"nothing to fetch: walker {last.version} is there"
    shell(f"zfs recv -u {host}/other < {last.stream.file}", walked.folder)
    with (
        zfs.mounted(f"{host}/walker@{last.version}", place.mountpoint("by-deltas")) as one,
        zfs.mounted(f"{host}/other@{last.version}", place.mountpoint("in-full")) as other,
    ):
        listed, others = list(walk.entries(one)), list(walk.entries(other))
    assert listed[1:] == others[1:], "inodes and times are the same, too"
    assert tree.digest_of(listed).sha256 == last.tree.sha256


def cut_and_resumed(delta: manifest.Delta, dataset: str, walked: Builder) -> None:
    """Receives a delta in two parts: the file until the connection broke, then from the builder what is missing."""
    half = f"head -c 1500000 {delta.file} | zfs recv -s -u {dataset}"
    assert subprocess.run(half, shell=True, cwd=walked.folder, capture_output=True).returncode != 0
    token = walked.zfs.get(dataset, "receive_resume_token")
    # A bookmark is all that the builder has left of the version that the delta starts from.
    rest = walked.sessions.artifacts / "rest.zfs"
    shell(f"zfs send -t {token} > {rest}", walked.folder)
    assert rest.stat().st_size < delta.size - 1_000_000
    shell(f"zfs recv -s -u {dataset} < {rest}", walked.folder)


def test_a_delta_goes_beside_a_machine_that_has_run(walked: Builder, host: str, place: Place) -> None:
    zfs, (first, second) = walked.zfs, walked.made[:2]
    ran = f"{host}/ran"
    shell(f"zfs recv -u -o mountpoint=legacy {ran} < first.zfs", walked.sessions.artifacts)
    with zfs.mounted(ran, place.mountpoint("ran")) as root:
        (root / "etc/machine-id").write_text("mine")
    delta = second.deltas[0]
    refused = subprocess.run(
        delta.receive.replace("tank/machines/walker", ran),
        shell=True,
        cwd=walked.folder,
        capture_output=True,
        text=True,
    )
    assert "has been modified" in refused.stderr
    assert delta.beside is not None
    at = place.mountpoint("beside")
    command = delta.beside.replace("tank/machines/walker", ran).replace("/var/lib/machines", str(at))
    shell(command, walked.folder)
    arrived = f"{ran}-{second.version}"
    assert zfs.get(arrived, "origin") == f"{ran}@{first.version}"
    assert (at / f"walker-{second.version}/etc/motd").read_text() == "two"
    with zfs.mounted(ran, place.mountpoint("ran")) as root:
        assert (root / "etc/machine-id").read_text() == "mine"
    shell(f"zfs destroy -r {arrived}", walked.folder)  # it is mounted, as the command left it


def test_a_builder_that_lost_the_previous_version_says_so_and_sends_in_full(
    walked: Builder, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = walked.made[-1]
    walked.zfs.destroy(walked.golden)
    made = walked.version(write("etc/motd", "five"))
    assert walked.said == (
        f"no delta from the previous version: this builder has lost {lost.version} (guid {lost.snapshot.guid})"
    )
    assert made.deltas == ()
    assert verify.check(walked.folder) == made
    full = f"{made.stream.file} ("
    assert choice(capsys, walked.folder, "--have", lost.snapshot.guid).startswith(full)
