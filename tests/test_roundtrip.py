"""The round trip: an exported stream is received by plain `zfs recv`, runs on the host, and is what was sealed."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.artifact import manifest, tree
from pipeline.command import SILENT, output, run
from pipeline.image import Boot
from pipeline.machine import Machine, host
from pipeline.machine import machinectl as ctl
from pipeline.place import Place
from pipeline.plugin.options import settings
from pipeline.zfs import Zfs

POOL = "tank"

_TALK = "exec 3<>/dev/tcp/127.0.0.1/80 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"

SERVES = {
    "debian": ("web1", "curl -sf http://localhost/", "<h1>web1</h1>"),
    "gentoo": ("gentoo1", f"bash -c {shlex.quote(_TALK)}", "glyph known: yes"),
}
"""Of each distribution an image, a command that asks the machine for its page, and what stands in the answer."""


@dataclass(frozen=True)
class Shipped:
    """An artifact: its folder, its manifest, and how the machine is asked for its page."""

    folder: Path
    manifest: manifest.Manifest
    asked: str
    page: str

    @property
    def name(self) -> str:
        return self.manifest.image


@pytest.fixture(scope="module", params=SERVES)
def shipped(request: pytest.FixtureRequest, place: Place, pytestconfig: pytest.Config) -> Shipped:
    """A web server's artifact, which this run exported."""
    chosen = settings(pytestconfig)
    name, asked, page = SERVES[request.param]
    folder = chosen.wishes.artifacts / name
    if not (folder / manifest.FILE).exists() or not Zfs().exists(manifest.load(folder).snapshot.name):
        pytest.fail(
            f"{folder} does not hold an artifact of this pool: run with the image, `pytest --image {name}`, first"
        )
    return Shipped(folder, manifest.load(folder), asked, page)


@pytest.fixture(scope="module")
def received(shipped: Shipped, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    """The artifact, received into another pool by the very command that its manifest gives."""
    file = tmp_path_factory.mktemp("pool") / "pool.img"
    with file.open("wb") as handle:
        handle.truncate(4 << 30)
    run(["zpool", "create", "-O", "mountpoint=none", "-o", "cachefile=none", POOL, str(file)], timeout=120)
    try:
        run(["zfs", "create", f"{POOL}/machines"], timeout=60)
        script = f"sha256sum -c SHA256SUMS && {shipped.manifest.receive}"
        run(["/bin/sh", "-ec", script], cwd=shipped.folder, timeout=600)
        yield shipped
    finally:
        run(["zpool", "destroy", "-f", POOL], timeout=120)


def test_the_received_content_is_the_sealed_content_file_by_file(received: Shipped, place: Place) -> None:
    zfs = Zfs()
    snapshot = received.manifest.snapshot.name
    copy = f"{POOL}/machines/{received.name}@{snapshot.split('@')[1]}"
    assert zfs.get(copy, "guid") == received.manifest.snapshot.guid
    with (
        zfs.mounted(snapshot, place.mountpoint("sealed"), readonly=True) as sealed,
        zfs.mounted(copy, place.mountpoint("received"), readonly=True) as arrived,
    ):
        assert tree.differences(sealed, arrived) == []
        digest = tree.digest(arrived)
    assert (digest.sha256, digest.entries) == (received.manifest.tree.sha256, received.manifest.tree.entries)


def test_a_stream_sets_no_property_on_the_receiver(received: Shipped) -> None:
    plain = f"{POOL}/plain"
    with (received.folder / received.manifest.stream.file).open("rb") as stream:
        subprocess.run(["zfs", "recv", "-u", plain], stdin=stream, check=True, timeout=600)
    rows = output(["zfs", "get", "-Hp", "-o", "property,source", "all", plain]).stdout.splitlines()
    assert [row for row in rows if row.endswith("\treceived")] == []


def test_the_machine_runs_on_the_host_answers_a_shell_and_serves_its_page(received: Shipped, place: Place) -> None:
    name = received.name
    settings_folder = Path("/etc/systemd/nspawn")
    run(["install", "-D", "-m", "644", "-t", str(settings_folder), str(received.folder / f"{name}.nspawn")], timeout=30)
    machine = Machine(name, Path("/var/lib/machines") / name, Boot(), SILENT, place.slowness)
    try:
        run(["systemctl", "start", f"systemd-nspawn@{name}"], timeout=place.limit(90))
        machine.judge()
        ctl.shell(machine)
        deadline = time.monotonic() + place.limit(10)
        while received.page not in (served := host(name).run(received.asked)).stdout:
            assert time.monotonic() < deadline, served
    finally:
        run(["systemctl", "stop", f"systemd-nspawn@{name}"], timeout=place.limit(90), check=False)
        (settings_folder / f"{name}.nspawn").unlink(missing_ok=True)
