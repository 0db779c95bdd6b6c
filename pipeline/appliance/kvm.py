"""Whether KVM really runs a guest here: tried with the appliance's own kernel, not guessed from /dev/kvm.

A /dev/kvm may open and answer and yet run no ordinary guest (nested under a hypervisor that does not pass it on).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.appliance.namespace import leashed

_WAIT = 2.5
"""Seconds within which a kernel under KVM has greeted on the serial line (0.3 on real ones)."""

_EMULATED = "max,-erms,-fsrm"
"""All that TCG emulates, so that images for x86-64-v3 run, but for the two flags by which a kernel copies with
`rep movsb`: TCG does that byte by byte (80 MB through a pipe: 552 to 705 ms with them, 290 to 312 without)."""

_PLAIN_SHA = "~0x1000020000000000:~0x20"
"""OpenSSL without SSSE3, AVX and AVX2: its code in plain words is two to three times as fast under TCG as that in
emulated vectors (SHA-256 of 40 MB: 0.9 to 1.7 s, and 3.2 to 3.4). The bits are those of OPENSSL_ia32cap(3)."""

_SAME_ADDRESSES = "norandmaps rcupdate.rcu_expedited=1"
"""Under TCG of QEMU 7.2 it costs much to give each process addresses of its own (why was not looked into): 300 forks
with exec took 7.4 to 9.3 s so, and 1.6 to 3.1 with all at the same ones; systemd-run 0.38 to 0.56 s, and 0.19 to 0.34.
And what waits for all processors, as mounts do, waits less long (20 tmpfs, once each: 0.87 and 0.58 s)."""

_NO_CPUSETS = "cgroup_disable=cpuset"
"""Whoever uses the first cpuset patches the kernel's own code (get_page_from_freelist), and under TCG the other
processor was seen to run into the breakpoint of that patch and to panic ("Oops: int3")."""


@dataclass(frozen=True)
class Accelerator:
    """How QEMU runs the guest: "kvm" or "tcg", and why."""

    name: str
    why: str

    @property
    def arguments(self) -> tuple[str, ...]:
        if self.name == "kvm":
            return ("-accel", "kvm", "-cpu", "host")
        return ("-accel", "tcg,thread=multi", "-cpu", _EMULATED)

    @property
    def parameters(self) -> str:
        """What the guest's kernel is told (its kernel-parameters)."""
        return "" if self.name == "kvm" else f"{_NO_CPUSETS} {_SAME_ADDRESSES}"

    @property
    def environment(self) -> dict[str, str]:
        """What programs in the guest are told, so that they choose what is fast there."""
        return {} if self.name == "kvm" else {"OPENSSL_ia32cap": _PLAIN_SHA}

    @property
    def host(self) -> str:
        """What of the host a saved state depends on: with KVM, the guest saw its processor."""
        if self.name != "kvm":
            return ""
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        kept = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")
        return "\n".join(line for line in lines if line.partition("\t")[0].strip() in kept)


def probe(
    kernel: Path, verdicts: Path, *, qemu: str = "qemu-system-x86_64", device: Path = Path("/dev/kvm")
) -> Accelerator:
    """KVM if a kernel starts under it, else TCG. The verdict holds for this boot of the host, kept in `verdicts`."""
    if not os.access(device, os.R_OK | os.W_OK):
        return Accelerator("tcg", f"{device} " + ("may not be opened" if device.exists() else "is missing"))
    key = f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.geteuid()} {qemu}"
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(verdicts.read_text())
        if kept["key"] == key:
            return Accelerator(kept["name"], kept["why"])
    verdict = _try(kernel, qemu)
    new = verdicts.with_name(f"{verdicts.name}.{os.getpid()}")
    new.write_text(json.dumps({"key": key, "name": verdict.name, "why": verdict.why}))
    new.replace(verdicts)
    return verdict


def _try(kernel: Path, qemu: str) -> Accelerator:
    argv = [qemu, "-machine", "q35", *Accelerator("kvm", "").arguments, "-m", "256", "-nodefaults", "-no-user-config"]
    argv += ["-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", str(kernel)]
    argv += ["-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]
    process = subprocess.Popen(
        leashed(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said = _read_until(process, b"Linux version", _WAIT)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if b"Linux version" in said:
        return Accelerator("kvm", "a guest runs under KVM")
    lines = [
        line
        for line in said.decode(errors="replace").splitlines()
        if any(word in line.lower() for word in ("kvm", "msr"))
    ]
    reason = lines[0].strip() if lines else f"no kernel started within {_WAIT} s"
    return Accelerator("tcg", f"KVM runs no guest here ({reason})")


def _read_until(process: subprocess.Popen[bytes], wanted: bytes, limit: float) -> bytes:
    assert process.stdout is not None
    said = b""
    deadline = time.monotonic() + limit
    with process.stdout as pipe, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while wanted not in said and (left := deadline - time.monotonic()) > 0:
            if selector.select(left):
                chunk = os.read(pipe.fileno(), 65536)
                if not chunk:
                    break
                said += chunk
    return said
