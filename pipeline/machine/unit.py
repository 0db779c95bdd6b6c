"""A machine that boots: systemd-nspawn in a transient unit, its readiness, its health, and its end.

Ready is not healthy (facts/nspawn.md): nspawn's notification says that PID 1 has emptied its queue of jobs, with
failed units or without. So readiness is waited for, and health judged apart from it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential
from tenacity.retry import retry_if_result

from pipeline.command import BuildLog, output, run
from pipeline.errors import CheckFailed, CommandFailed, PlaceError
from pipeline.image import Boot
from pipeline.machine.settings import Settings
from pipeline.machine.written import apart
from pipeline.masking import masked
from pipeline.network import Segment

MACHINE_UNIT = "goldspawn-machine-"
LEASH_UNIT = "goldspawn-leash-"

_SETTINGS = Path("/run/systemd/nspawn")

_WRITTEN = Path("/var/tmp/goldspawn-written")
"""Where a machine's writes to the host's directories are: on a disk, as those of systemd-nspawn's own overlays."""

_DEVICES = (
    "/dev/net/tun rwm", "char-pts rw", "/dev/fuse rwm", "/dev/loop-control rw", "block-loop rw", "block-blkext rw",
    "/dev/mapper/control rw", "block-device-mapper rw",
)  # fmt: skip
"""What systemd-nspawn@.service allows beside /dev/null and its like (systemd 257)."""

_STOP = 5.0
"""Seconds that nspawn has to end when its unit is stopped. That of a killed run asks its machine to halt, and one that
has only begun to boot does not hear it: the kernel drops a signal to PID 1 of a container that has no handler for it
yet (pid_namespaces(7))."""

_REBOOT_STATUS = "133"
"""What nspawn exits with under --keep-unit when the machine asks for a reboot (systemd-nspawn@.service has it)."""


@dataclass(frozen=True)
class State:
    """What the host's systemd says of a machine's unit: its ActiveState, and how often it was restarted."""

    activity: str
    restarts: int

    @property
    def running(self) -> bool:
        return self.activity == "active"

    @property
    def over(self) -> bool:
        """Whether the machine is gone, and nothing is on its way to bring it back."""
        return self.activity in ("inactive", "failed")


@dataclass
class Machine:
    """A machine made of the tree at `directory`, run with `settings`. `slowness` multiplies all time limits.

    `credentials` are the files of those that it is given (systemd.exec(5), credentials), by their names.
    """

    name: str
    directory: Path
    boot: Boot
    log: BuildLog
    slowness: float = 1.0
    settings: Settings = field(default_factory=Settings)
    segment: Segment | None = None
    credentials: Mapping[str, Path] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        return f"{MACHINE_UNIT}{self.name}.service"

    @property
    def _file(self) -> Path:
        """Where systemd-nspawn finds the settings of a machine, and trusts them (systemd-nspawn(1), --settings)."""
        return _SETTINGS / f"{self.name}.nspawn"

    def start(self) -> None:
        """Boots the machine and waits until it is ready.

        Raises `CheckFailed` when it ends while it boots or is not ready in time, with what it was waiting for and the
        end of its console.
        """
        limit = self.boot.timeout * self.slowness
        properties = {
            "Type": "notify", "NotifyAccess": "main", "TimeoutStartSec": "infinity", "KillMode": "mixed",
            "TimeoutStopSec": f"{_STOP * self.slowness:.0f}", "Delegate": "yes",
            "RestartForceExitStatus": _REBOOT_STATUS, "SuccessExitStatus": _REBOOT_STATUS,
            "BindsTo": leash(), "After": leash(), "DevicePolicy": "closed",
            "Environment": "SYSTEMD_LOG_TARGET=console",  # by the journal's own way its last words get lost
        }  # fmt: skip
        told = [*properties.items(), *(("DeviceAllow", one) for one in _DEVICES), *self.settings.directives]
        argv = [
            "systemd-run", "--quiet", "--collect", f"--unit={self.unit}", "--slice=machine.slice",
            *(f"--property={key}={value}" for key, value in told), "--",
            "systemd-nspawn", "--quiet", "--boot", "--settings=override", "--keep-unit",
            *(f"--load-credential={name}:{path}" for name, path in self.credentials.items()), *self.settings.options,
            f"--machine={self.name}", f"--directory={self.directory}",
        ]  # fmt: skip
        _clear_written(self.name)
        text = apart(self.settings, self.name, self.directory, _WRITTEN / self.name).nspawn
        self.log.line(f"settings: {self._file}\n{text}")
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(text)
        try:
            run(argv, log=self.log, timeout=limit)
        except CommandFailed as error:
            waiting = [f"  waiting for {job}" for job in self.jobs()] if error.status is None else []
            what = f"was not ready within {limit:.0f} s" if error.status is None else "ended while it was booting"
            lines = [f"the machine {what}", *waiting, "  the end of its console:"]
            lines += [f"    {line}" for line in self.console(15)]
            raise CheckFailed("\n".join(lines), hint="boot.timeout in image.toml is the limit") from error

    def stop(self) -> None:
        """Ends the machine without asking it, and waits until nothing of it is left."""
        _end(self.unit, self.name, self.log, 120 * self.slowness)

    def state(self) -> State:
        """What the host's systemd says of the machine's unit."""
        shown = output(["systemctl", "show", "--property=ActiveState,NRestarts", self.unit]).stdout.splitlines()
        told = dict(line.split("=", 1) for line in shown)
        return State(told["ActiveState"], int(told.get("NRestarts") or 0))

    def console(self, lines: int) -> list[str]:
        """The last lines that the machine's console and nspawn itself printed."""
        argv = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--unit={self.unit}", f"--lines={lines}"]
        return masked(output(argv, check=False).stdout).splitlines()

    def jobs(self) -> list[str]:
        """The units whose jobs the machine's PID 1 has not finished."""
        listed = output(["systemctl", "-M", self.name, "list-jobs", "--plain", "--no-legend"], check=False, timeout=30)
        return [words[1] for line in listed.stdout.splitlines() if len(words := line.split()) > 1]

    def system_state(self) -> str:
        """What `systemctl is-system-running` says when the machine has started: running, degraded, ….

        Asked again until then, for the bus may not be there at once; `--wait` would do that by itself, but was seen to
        wait for ever just after a reboot.
        """

        @retry(
            retry=retry_if_result(lambda state: state in ("", "initializing", "starting"))
            | retry_if_exception_type(CommandFailed),
            wait=wait_exponential(multiplier=0.1, max=2),
            stop=stop_after_delay(20 * self.slowness),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else "",
        )
        def ask() -> str:
            argv = ["systemctl", "-M", self.name, "is-system-running"]
            return output(argv, check=False, timeout=10 * self.slowness).stdout.strip()

        return ask()

    def failed_units(self) -> list[str]:
        argv = ["systemctl", "-M", self.name, "list-units", "--failed", "--output=json"]
        return [unit["unit"] for unit in json.loads(output(argv, log=self.log).stdout or "[]")]

    def restart_loops(self) -> list[str]:
        """Services that systemd has had to start again by itself since the machine booted."""
        argv = ["systemctl", "-M", self.name, "show", "--property=Id,NRestarts", "--type=service", "*"]
        loops = []
        for block in output(argv, log=self.log).stdout.split("\n\n"):
            shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if int(shown.get("NRestarts") or 0) > 0 and not shown["Id"].startswith("console-getty"):
                loops.append(shown["Id"])
        return loops

    def judge(self) -> None:
        """Asserts that the machine is healthy: no job waits, no unit failed but those that may, none keeps restarting.

        Raises `CheckFailed` that names the units, each with the end of its journal.
        """
        state = self.system_state()
        failed = [unit for unit in self.failed_units() if unit not in self.boot.allow_failed]
        loops = [unit for unit in self.restart_loops() if unit not in self.boot.allow_failed and unit not in failed]
        problems = [("failed", failed), ("had to be restarted", loops), ("still waits to start", self.jobs())]
        lines = []
        for what, units in problems:
            for unit in units:
                lines.append(f"{unit} {what}; its journal ends:")
                lines += [f"    {line}" for line in self.unit_journal(unit)]
        if lines:
            wrong = [f"{unit} {what}" for what, units in problems for unit in units]
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise CheckFailed(
                "\n".join([f"the machine is {state}: {', '.join(wrong[:3])}{more}", *lines]),
                hint="a unit that may fail is named in boot.allow_failed of image.toml",
            )
        if state not in ("running", "degraded"):
            raise CheckFailed(f"the machine is {state or 'not answering'}, and no unit of it failed")

    def unit_journal(self, unit: str, lines: int = 8) -> list[str]:
        argv = ["journalctl", "-M", self.name, "--quiet", "--no-pager", "--output=short-monotonic"]
        return masked(output([*argv, f"--unit={unit}", f"--lines={lines}"], check=False).stdout).splitlines()

    def journal(self) -> str:
        """The machine's whole journal, as text, without what is hidden."""
        argv = ["journalctl", "-M", self.name, "--quiet", "--no-pager", "--output=short-iso-precise"]
        return masked(output(argv, check=False, timeout=60 * self.slowness).stdout)


def leader(machine: str) -> int:
    """The host's number of a machine's PID 1. Raises `CommandFailed` for one that systemd-machined does not know."""
    return int(output(["machinectl", "show", machine, "--property=Leader", "--value"]).stdout)


def leash() -> str:
    """The name of a unit that lives exactly as long as this process, started when first asked for.

    Machines are bound to it (BindsTo=), so that they end with the run, even one that is killed with SIGKILL.
    """
    unit = f"{LEASH_UNIT}{os.getpid()}.service"
    if output(["systemctl", "is-active", unit], check=False).stdout.strip() != "active":
        output(["systemd-run", "--quiet", "--collect", f"--unit={unit}", "--",
                "tail", f"--pid={os.getpid()}", "-f", "/dev/null"])  # fmt: skip
    return unit


def stop_machines_of(prefix: str, log: BuildLog) -> None:
    """Ends the machines of a build that died: units of ours whose machine's name begins with `prefix`."""
    argv = ["systemctl", "list-units", "--all", "--plain", "--no-legend", f"{MACHINE_UNIT}{prefix}*"]
    for line in output(argv).stdout.splitlines():
        unit = line.split()[0]
        _end(unit, unit.removeprefix(MACHINE_UNIT).removesuffix(".service"), log, 600)
        if output(["systemctl", "is-active", unit], check=False).stdout.strip() == "active":
            raise PlaceError(f"{unit} of an earlier run cannot be stopped", hint=f"systemctl status {unit}")
    for left in _EXPORTS.glob(f"{prefix}*"):
        _clear_export(left, log)
    for left in _SETTINGS.glob(f"{prefix}*.nspawn"):
        left.unlink()
    for left in _WRITTEN.glob(f"{prefix}*"):
        _clear_written(left.name)


def _end(unit: str, machine: str, log: BuildLog, limit: float) -> None:
    """Kills a machine's PID 1, so that nspawn itself, which lives, cleans up; then waits for the unit to be gone."""
    main = output(["systemctl", "show", "--value", "--property=MainPID", unit]).stdout.strip()
    children = Path(f"/proc/{main}/task/{main}/children")
    if children.exists():
        log.line(f"ends {unit}: its PID 1 is killed")
        for child in children.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
    output(["systemctl", "stop", unit], log=log, check=False, timeout=limit)
    output(["systemctl", "reset-failed", unit], check=False)
    _clear_export(_EXPORTS / machine, log)
    (_SETTINGS / f"{machine}.nspawn").unlink(missing_ok=True)
    _clear_written(machine)


def _clear_written(machine: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(_WRITTEN / machine)


_EXPORTS = _SETTINGS / "unix-export"


def _clear_export(left: Path, log: BuildLog) -> None:
    """Removes what an nspawn that was killed leaves: it refuses to start a machine of that name again (systemd 257)."""
    if left.is_mount():
        output(["umount", str(left)], log=log, check=False)
        left.rmdir()
