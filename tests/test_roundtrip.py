"""The round trip: an exported stream is received by plain `zfs recv`, runs on the host, and is what was sealed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.artifact import manifest, receive, tree
from pipeline.command import SILENT, output, run
from pipeline.image import Boot
from pipeline.machine import Machine, Network, host, leash
from pipeline.machine import machinectl as ctl
from pipeline.network import Segment, peer, segment
from pipeline.place import Place
from pipeline.plugin.options import settings
from pipeline.zfs import Zfs

POOL = "tank"

_TALK = "exec 3<>/dev/tcp/127.0.0.1/80 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"

SERVES: dict[str, tuple[str, str, str, bool, int]] = {
    "debian": ("web1", "curl -sf http://localhost/", "<h1>web1</h1>", True, 512 << 20),
    "gentoo": ("gentoo1", f"bash -c {shlex.quote(_TALK)}", "glyph known: yes", False, 0),
}
"""Of each distribution an image, and what `Shipped` says of it from `asked` on."""


@dataclass(frozen=True)
class Shipped:
    """An artifact: its folder, its manifest, and how the machine is asked for its page."""

    folder: Path
    manifest: manifest.Manifest
    asked: str
    page: str
    networked: bool
    """Whether it asks for addresses, as a host of a network of its own."""
    limit: int
    """Most memory in bytes that its definition allows, 0 for no limit."""

    @property
    def name(self) -> str:
        return self.manifest.image


@pytest.fixture(scope="module", params=SERVES)
def shipped(request: pytest.FixtureRequest, place: Place, pytestconfig: pytest.Config) -> Shipped:
    """A web server's artifact, which this run exported."""
    chosen = settings(pytestconfig)
    name, *said = SERVES[request.param]
    folder = chosen.wishes.artifacts / name
    if not (folder / manifest.FILE).exists() or not Zfs().exists(manifest.load(folder).snapshot.name):
        pytest.fail(
            f"{folder} does not hold an artifact of this pool: run with the image, `pytest --image {name}`, first"
        )
    return Shipped(folder, manifest.load(folder), *said)


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
        # A machine that has just stopped keeps its dataset busy: for seconds, on a busy guest for more than twenty.
        again = f"for try in $(seq 60); do zpool destroy -f {POOL} && exit; sleep 2; done; exit 1"
        run(["sh", "-c", again], timeout=300)


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


@pytest.fixture
def installed(received: Shipped, place: Place) -> Iterator[Segment]:
    """The machine's settings, where the manifest's own commands put them, and a bridge of this host in them."""
    name = received.name
    nspawn = Path(f"/etc/systemd/nspawn/{name}.nspawn")
    service = Path(f"/etc/systemd/system/systemd-nspawn@{name}.service.d")
    with segment(leash(), SILENT, place.slowness) as bridge:
        run(["/bin/sh", "-ec", "\n".join(receive.install(received.manifest))], cwd=received.folder, timeout=60)
        link = "VirtualEthernet=yes\n"
        assert link in nspawn.read_text()
        nspawn.write_text(nspawn.read_text().replace(link, f"{link}Bridge={bridge.name}\n"))
        try:
            yield bridge
        finally:
            nspawn.unlink()
            shutil.rmtree(service, ignore_errors=True)
            run(["systemctl", "daemon-reload"], timeout=60)


def test_the_machine_runs_on_the_host_and_serves_its_page_there_and_to_others(
    received: Shipped, installed: Segment, place: Place
) -> None:
    name = received.name
    machine = Machine(name, Path("/var/lib/machines") / name, Boot(), SILENT, place.slowness)
    try:
        run(["systemctl", "start", f"systemd-nspawn@{name}"], timeout=place.limit(90))
        machine.judge()
        ctl.shell(machine)
        deadline = time.monotonic() + place.limit(10)
        while received.page not in (served := host(name).run(received.asked)).stdout:
            assert time.monotonic() < deadline, served
        if received.limit:
            unit = f"/sys/fs/cgroup/machine.slice/systemd-nspawn@{name}.service"
            assert Path(unit, "memory.max").read_text().strip() == str(received.limit)
        if received.networked:
            network, other = Network(name, installed, SILENT, place.slowness), peer(installed)
            for url in (f"http://{network.address(4)}/", f"http://[{network.address(6)}]/", f"http://{name}/"):
                command = "curl --silent --show-error --fail --retry 5 --retry-all-errors --max-time 60 %s"
                assert received.page in other.check_output(command, url)
    finally:
        run(["systemctl", "stop", f"systemd-nspawn@{name}"], timeout=place.limit(90), check=False)
