"""One QEMU process: its command line, its memory, its control line; saving it and starting it from what was saved.

Nothing of it lies in the file system while it runs, but for its disks: memory is a memfd, the control line a socket
pair, so that a killed run leaves nothing. Knows the machine, not what runs in it.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.appliance.kvm import Accelerator
from pipeline.appliance.namespace import leashed
from pipeline.appliance.qmp import Qmp, QmpError
from pipeline.errors import PlaceError

QEMU = "qemu-system-x86_64"

# Memory is not wiped when it is handed out: the guest is one user's own, and under TCG each page costs.
_APPEND = (
    "console=ttyS0 panic=-1 mitigations=off quiet net.ifnames=0 rdinit=/init systemd.show_status=no "
    "systemd.log_color=0 audit=0 zfs.zfs_arc_max=1073741824 init_on_alloc=0"
)
_MACHINE = (
    "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-rtc", "base=utc",
    "-device", "pcie-root-port,id=rp0,chassis=1,slot=1", "-device", "pcie-root-port,id=rp1,chassis=2,slot=2",
    "-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto",
    "-device", "virtio-net-pci,netdev=net,romfile=",
    "-device", "virtio-blk-pci,drive=root,serial=root",
)  # fmt: skip


@cache
def version() -> str:
    """QEMU's version, as it says."""
    said = subprocess.run([QEMU, "--version"], capture_output=True, text=True).stdout
    return said.partition("\n")[0]


@dataclass(frozen=True)
class Machine:
    """What QEMU is started with. Two equal machines can take over each other's saved state."""

    folder: Path
    accelerator: Accelerator
    memory_mib: int
    cpus: int

    @property
    def state(self) -> Path:
        """Where the saved state of such a machine lies."""
        inputs = (
            version(), *self.accelerator.arguments, self.accelerator.host, self.memory_mib, self.cpus, self._parameters
        )  # fmt: skip
        digest = hashlib.sha256(repr((inputs, _MACHINE)).encode()).hexdigest()[:12]
        return self.folder / f"state-{digest}"

    @property
    def _parameters(self) -> str:
        return f"{_APPEND} {self.accelerator.parameters}".rstrip()

    def argv(self, *, memory: int, control: int, console: Path, incoming: bool) -> list[str]:
        """The command line; `memory` and `control` are file descriptors that QEMU inherits."""
        backend = f"memory-backend-file,id=mem,size={self.memory_mib}M,mem-path=/proc/self/fd/{memory},share=on"
        return [
            QEMU, "-name", "goldspawn-appliance", "-machine", "q35,memory-backend=mem", "-object", backend,
            *self.accelerator.arguments, "-smp", str(self.cpus), "-m", str(self.memory_mib),
            "-kernel", str(self.folder / "vmlinuz"), "-initrd", str(self.folder / "initrd"),
            "-append", self._parameters,
            "-drive", f"if=none,id=root,format=raw,readonly=on,file={self.folder / 'root.erofs'}",
            "-netdev", "user,id=net,restrict=off,hostfwd=tcp:127.0.0.1:0-:22", *_MACHINE,
            "-chardev", f"file,id=console,path={console}", "-serial", "chardev:console",
            "-chardev", f"socket,id=control,fd={control}", "-mon", "chardev=control,mode=control",
            *(["-incoming", "defer"] if incoming else []),
        ]  # fmt: skip


class Qemu:
    """A running QEMU. `state` is a saved state to start from (see `save`); without it, the machine boots."""

    def __init__(self, machine: Machine, console: Path, *, state: Path | None = None) -> None:
        self.machine = machine
        self._memory = os.memfd_create("goldspawn-appliance")
        ours, theirs = socket.socketpair()
        try:
            os.ftruncate(self._memory, machine.memory_mib << 20)
            if state is not None:
                copy_sparse(state / "memory", self._memory)
            argv = machine.argv(
                memory=self._memory, control=theirs.fileno(), console=console, incoming=state is not None
            )
            self.process = subprocess.Popen(
                leashed(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(self._memory, theirs.fileno()),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._memory)
            ours.close()
            raise
        finally:
            theirs.close()
        try:
            self.qmp = Qmp(ours)
            if state is not None:
                self._restore(state)
        except QmpError as error:
            said = self.end()
            raise QmpError(f"{error.message} {said}".strip()) from error
        except BaseException:
            self.end()
            raise

    def port(self) -> int:
        """The port of 127.0.0.1 that leads to the guest's ssh; the kernel chose it, so nobody can race for it."""
        found = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)", self.qmp.monitor("info usernet"))
        if found is None:
            raise PlaceError("QEMU forwards no port to the appliance's ssh")
        return int(found[1])

    def plug_shares(self, connected: socket.socket) -> None:
        """Plugs in the virtiofs device behind the daemon's connected socket."""
        self.qmp.call("getfd", connected.fileno(), fdname="shares")
        address = {"type": "fd", "data": {"str": "shares"}}
        backend = {"type": "socket", "data": {"addr": address, "server": False}}
        self.qmp.call("chardev-add", id="shares", backend=backend)
        self.qmp.call("device_add", driver="vhost-user-fs-pci", id="shares", chardev="shares", tag="shares", bus="rp0")

    def plug_pool(self, path: Path) -> None:
        """Plugs in the pool's disk.

        Flushes are not passed on: what QEMU has written survives its own death in the page cache, in order; only
        the host's own crash can cost the pool, and with it nothing but a cache.
        """
        file = {"driver": "file", "filename": str(path), "discard": "unmap", "cache": {"no-flush": True}}
        node = {"driver": "raw", "node-name": "pool", "discard": "unmap", "detect-zeroes": "unmap", "file": file}
        self.qmp.call("blockdev-add", **node, cache={"no-flush": True})
        self.qmp.call("device_add", driver="virtio-blk-pci", id="pool", drive="pool", serial="pool", bus="rp1")

    def save(self, target: Path) -> None:
        """Saves the guest into a directory that appears when it is whole, and lets the guest go on.

        The memory is copied beside the migration stream (capability x-ignore-shared), sparse as it is.
        """
        saving = target.with_name(f"saving-{os.getpid()}")
        saving.mkdir()
        self.qmp.call("stop")
        self._ignore_shared()
        self.qmp.call("migrate", uri=f"exec:cat > {_quoted(saving / 'devices')}")
        self.qmp.migrated(limit=60.0)
        with os.fdopen(os.open(saving / "memory", os.O_RDWR | os.O_CREAT, 0o600), "wb") as file:
            file.truncate(self.machine.memory_mib << 20)
            _copy(self._memory, file.fileno())
        saving.rename(target)
        self.qmp.call("cont")

    def end(self) -> str:
        """Kills QEMU and returns what it said on its standard error; a second time, does and returns nothing."""
        if self._memory < 0:
            return ""
        self.process.kill()
        _, said = self.process.communicate()
        os.close(self._memory)
        self._memory = -1
        if hasattr(self, "qmp"):
            self.qmp.close()
        return said.decode(errors="replace").strip()

    def _restore(self, state: Path) -> None:
        self._ignore_shared()
        self.qmp.call("migrate-incoming", uri=f"exec:cat {_quoted(state / 'devices')}")
        self.qmp.migrated(limit=30.0)
        self.qmp.call("cont")

    def _ignore_shared(self) -> None:
        capability = {"capability": "x-ignore-shared", "state": True}
        self.qmp.call("migrate-set-capabilities", capabilities=[capability])


def copy_sparse(source: Path, target: int) -> None:
    """Copies a file into the file behind a descriptor, without its holes."""
    with source.open("rb") as file:
        _copy(file.fileno(), target)


def _copy(source: int, target: int) -> None:
    end = os.fstat(source).st_size
    offset = 0
    while offset < end:
        try:
            offset = os.lseek(source, offset, os.SEEK_DATA)
        except OSError:  # ENXIO: a hole to the end
            return
        hole = os.lseek(source, offset, os.SEEK_HOLE)
        os.lseek(target, offset, os.SEEK_SET)
        while offset < hole:
            sent = os.sendfile(target, source, offset, min(hole - offset, 1 << 26))
            if sent == 0:
                raise OSError("a saved memory is shorter than it was")
            offset += sent


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "'\\''") + "'"
