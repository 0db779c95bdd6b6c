"""Deltas from the base: they follow the base's versions, a host is told which to fetch, and encrypted they are raw.

On trees of some files, in a pool of their own; nothing is booted.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.artifact import manifest, stream, verify
from pipeline.build import Wishes, open_build
from pipeline.command import run
from pipeline.export import export
from pipeline.image import load
from pipeline.place import Place, open_place
from pipeline.reuse.plan import Policy
from pipeline.workspace import open_workspace
from pipeline.zfs import Zfs
from tests.conftest import Sessions
from tests.test_deltas import choice, pool, shell

TARBALL = '[bootstrap]\nmethod = "tarball"\ntarball = "../root.tar"\n'


@dataclass
class Maker:
    """Makes versions of images as a session would, but for what is in them, a boot and checks."""

    sessions: Sessions
    place: Place
    zfs: Zfs = field(default_factory=Zfs)
    said: str = ""
    """Why the last export left out a delta."""

    def golden(self, name: str) -> str:
        return f"{self.place.layout.golden}/{name}"

    def folder(self, name: str) -> Path:
        return self.sessions.artifacts / name

    def make(self, name: str, text: str, *deltas: str, on: str = "") -> manifest.Manifest:
        """The next version of an image, whose file `text` says that, built on the newest version of the image `on`."""
        definition = f'from = "{on}"\n' if on else TARBALL
        wanted = ", ".join(f'"{one}"' for one in deltas)
        definition += f"[artifact]\ndeltas = [{wanted}]\n"
        folder = self.sessions.image(name, definition, root={"etc/build": uuid.uuid4().hex})
        image = load(folder, [self.sessions.images])
        wishes = Wishes(self.sessions.artifacts, self.sessions.artifacts / "shared", policy=Policy(max_age=40000.0))
        with open_build(image, self.place, wishes) as build:
            workspace = open_workspace(image, self.place, build.keys, build.zfs, policy=wishes.policy, wait=print)
            try:
                if on:
                    newest = manifest.load(self.folder(on)).snapshot.name
                    workspace.stand_on(newest, self.zfs.marks(newest))
                elif not workspace.start.holds("bootstrap"):
                    with workspace.filling("bootstrap") as layer:
                        (layer.tree / "common").write_bytes(os.urandom(1 << 20))
                with workspace.fill_tree() as root:
                    (root / "text").write_text(text)
                made = export(build, workspace.promote(wishes.listings, build.deltas), [])
                self.said = build.notes["deltas"]
            finally:
                workspace.close()
        assert verify.check(self.folder(name)) == made
        return made

    def text(self, dataset: str) -> str:
        with self.zfs.mounted(dataset, self.place.mountpoint(dataset), readonly=True) as root:
            return (root / "text").read_text()


@pytest.fixture
def maker(place: Place, tmp_path: Path) -> Iterator[Maker]:
    """A place of the test's own, with nothing in it."""
    with pool(tmp_path) as name:
        yield Maker(_sessions(tmp_path), open_place(name))


def _sessions(folder: Path) -> Sessions:
    made = Sessions(folder)
    (made.images / "root.tar").touch()
    return made


@pytest.fixture
def host(place: Place, tmp_path: Path) -> Iterator[str]:
    """A host's pool."""
    folder = tmp_path / "host"
    folder.mkdir()
    with pool(folder) as name:
        yield name


def test_versions_of_which_the_delta_from_the_base_is_wanted_follow_the_base(
    maker: Maker, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    maker.make("base", "base one")
    maker.make("top", "top one", "base", on="base")
    base = maker.make("base", "base two")
    top = maker.make("top", "top two", "base", on="base")
    (delta,) = top.deltas
    assert delta.origin.version == base.version
    assert delta.origin.guid == base.snapshot.guid
    assert maker.said == ""
    shell(f"zfs recv -u {host}/base < {base.stream.file}", maker.folder("base"))
    said = choice(capsys, maker.folder("top"), host)
    assert said.startswith(f"{delta.file} (")
    assert said.endswith(f"): what changed since base {base.version}, which is there")
    shell(f"zfs recv -u -o mountpoint=legacy {host}/top < {delta.file}", maker.folder("top"))
    assert maker.zfs.get(f"{host}/top", "origin") == f"{host}/base@{base.version}"
    assert maker.text(f"{host}/top@{top.version}") == "top two"
    assert choice(capsys, maker.folder("top"), host) == f"nothing to fetch: top {top.version} is there"
    # On the same version of the base the line goes on: whoever wants the step between the two has it.
    again = maker.make("top", "top three", "base", "previous", on="base")
    assert [one.origin.version for one in again.deltas] == [top.version, base.version]
    assert maker.said == ""


def test_where_the_previous_version_counts_they_stay_on_the_base_that_they_began_on_and_say_so(
    maker: Maker, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = maker.make("base", "base one")
    one = maker.make("top", "top one", "previous", "base", on="base")
    second = maker.make("base", "base two")
    two = maker.make("top", "top two", "previous", "base", on="base")
    assert [(delta.origin.kind, delta.origin.guid) for delta in two.deltas] == [
        ("previous", one.snapshot.guid), ("base", first.snapshot.guid),
    ]  # fmt: skip
    assert maker.said == f"no delta from base {second.version}: its versions stand on base {first.version}"
    have = ["--have", second.snapshot.guid]
    assert choice(capsys, maker.folder("top"), *have).startswith(f"{two.stream.file} (")
    maker.make("other", "another base")
    maker.make("top", "top three", "previous", "base", on="other")
    assert maker.said == (f"no delta from the base: its versions stand on base {first.version}, and not on other")


def test_a_version_on_which_a_machine_stands_is_not_given_up_for_another_base(maker: Maker) -> None:
    first = maker.make("base", "base one")
    one = maker.make("top", "top one", "base", on="base")
    maker.zfs.clone(one.snapshot.name, f"{maker.place.layout.base}/machine", properties={"mountpoint": "legacy"})
    second = maker.make("base", "base two")
    maker.make("top", "top two", "base", on="base")
    assert maker.said == f"no delta from base {second.version}: its versions stand on base {first.version}"
    assert maker.text(f"{maker.place.layout.base}/machine") == "top one"


def test_all_that_is_built_in_an_encrypted_dataset_is_sent_raw_and_opens_with_its_key(
    place: Place, host: str, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("correct horse battery staple")
    with pool(tmp_path) as name:
        encryption = ["encryption=on", "keyformat=passphrase", f"keylocation=file://{key}", "mountpoint=none"]
        run(["zfs", "create", *(word for one in encryption for word in ("-o", one)), f"{name}/secret"], timeout=120)
        maker = Maker(_sessions(tmp_path), open_place(f"{name}/secret"))
        base = maker.make("base", "sesame " * 5000)
        one = maker.make("top", "open " * 5000, "previous", "base", on="base")
        two = maker.make("top", "shut " * 5000, "previous", "base", on="base")
        assert [delta.origin.kind for delta in two.deltas] == ["previous", "base"]
        for what, made in (("base", base), ("top", two)):
            for file in (made.stream.file, *(delta.file for delta in made.deltas)):
                sent = (maker.folder(what) / file).read_bytes()
                assert "raw" in stream.header(sent).flags
                assert not any(word in sent for word in (b"sesame", b"open open", b"shut shut"))
        onto_base, onto_one = one.deltas[0], two.deltas[0]
        for command, what in (
            (base.receive, "base"), (onto_base.receive, "top"), (onto_one.receive, "top")
        ):  # fmt: skip
            ready = command.replace("tank/machines", host).replace("/var/lib/machines", str(tmp_path / "machines"))
            shell(ready, maker.folder(what))
        shell(f"zfs load-key -L file://{key} {host}/base", tmp_path)
        assert maker.zfs.get(f"{host}/top", "keystatus") == "available"
        for what, made, text in (("base", base, "sesame "), ("top", one, "open "), ("top", two, "shut ")):
            snapshot = f"{host}/{what}@{made.version}"
            assert maker.zfs.get(snapshot, "guid") == made.snapshot.guid
            assert maker.text(snapshot) == text * 5000
