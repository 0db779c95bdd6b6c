"""One build host: how ssh reaches it, and making it ready: a Python that has what we need, and our files.

ssh is the user's own, with the user's configuration, keys and known hosts. What we add only bounds waiting.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError, PlaceError
from pipeline.hosts.freight import Freight

_SSH = {"BatchMode": "yes", "ConnectTimeout": 45, "ServerAliveInterval": 10, "ServerAliveCountMax": 4}
"""ssh's options (ssh_config(5)): ask nobody, and notice within 40 seconds that a host is gone."""

_LIMIT = 120.0
"""Seconds that a host has to answer what it has; shipping may take `_SHIPPING`."""

_SHIPPING = 1800.0

MODULES = ("execnet", "filelock", "libzfs_core", "pexpect", "platformdirs", "pydantic", "pytest", "tenacity",
           "testinfra", "xdist")  # fmt: skip
"""What a host's Python has to have."""

_PYTHONS = ("goldspawn/.venv/bin/python", "/opt/goldspawn/.venv/bin/python", "python3")
"""Where a host's Python is looked for, relative to its user's home."""

_KEPT_DAYS = 3
"""Days after which a host forgets what was shipped and not used."""

_LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True)
class Host:
    """A build host: `address` as ssh takes it, the `python` to use there ("" to look for one), what its environment
    has besides, and a configuration of ssh's own.
    """

    address: str
    python: str = ""
    env: tuple[tuple[str, str], ...] = ()
    ssh_config: str = ""

    @property
    def name(self) -> str:
        """What the host is called in reports: its address without the user."""
        return self.address.rpartition("@")[2]

    @classmethod
    def parse(cls, text: str) -> Host:
        """From `[USER@]HOST[//python=PATH][//env:NAME=VALUE][//ssh_config=FILE]`, as execnet writes it.

        Raises `InputError`.
        """
        address, *more = text.removeprefix("ssh=").split("//")
        if not address or address.startswith("-") or any(letter.isspace() for letter in address):
            raise InputError(f'build host "{text}": expected [USER@]HOST')
        known: dict[str, str] = {"python": "", "ssh_config": ""}
        env: dict[str, str] = {}
        for part in more:
            key, equals, value = part.partition("=")
            if key.startswith("env:") and equals:
                env[key[4:]] = value
            elif key in known and value:
                known[key] = value
            else:
                raise InputError(
                    f'build host "{text}": cannot use "{part}"', hint="known: python=, env:NAME=, ssh_config="
                )
        return cls(address, known["python"], tuple(env.items()), known["ssh_config"])

    def ssh(self, command: str) -> list[str]:
        """The local command that runs a line of shell there, whatever shell its user has."""
        return [*self.argv, f"exec sh -c {shlex.quote(self.line(command))}"]

    @property
    def argv(self) -> list[str]:
        """ssh and its arguments, without a command."""
        config = ["-F", self.ssh_config] if self.ssh_config else []
        options = [part for name, value in _SSH.items() for part in ("-o", f"{name}={value}")]
        return ["ssh", "-T", *config, *options, self.address]

    def line(self, command: str) -> str:
        """A line of shell in the environment that was asked for."""
        return "".join(f"export {name}={shlex.quote(value)}; " for name, value in self.env) + command


@dataclass(frozen=True)
class Ready:
    """A host that can build: its Python, its number of processors, and where our files lie there."""

    host: Host
    python: str
    cpus: int
    root: str

    def there(self, path: Path) -> str:
        """Where a shipped path of this machine is on the host."""
        return f"{self.root}{path}"

    def spec(self, worker: str, code: Path, folder: Path, instructions: Path) -> str:
        """The execnet spec of a worker there that begins in `folder`; `instructions` is a file to write for that.

        To execnet it is a Python started here (which is ssh), so it neither ships nor rewrites anything by itself:
        that part of pytest-xdist goes with its version 4.
        """
        command = f"cd {shlex.quote(self.there(folder))} && exec env PYTHONPATH={shlex.quote(self.there(code))} "
        line = self.host.line(command + shlex.quote(self.python))
        instructions.write_text(json.dumps({"ssh": self.host.argv, "line": line}))
        return f"popen//id={worker}//python={shlex.join([sys.executable, '-I', str(_LAUNCHER), str(instructions)])}"


def make_ready(host: Host, freight: Freight) -> Ready:
    """Finds the host's Python and brings our files there, if they are not there yet. Raises `PlaceError`."""
    base, python, cpus, there = _ask(host, freight.key)
    root = f"{base}/{freight.key}"
    if there != "yes":
        _ship(host, freight, root)
    check = f"cd {shlex.quote(root)} && PYTHONPATH={shlex.quote(f'{root}{freight.code}')} {shlex.quote(python)} -c "
    said = _run(host, check + shlex.quote(_CAN_BUILD), limit=_LIMIT)
    if said.strip():
        raise PlaceError(f"build host {host.address}: {said.strip()}")
    return Ready(host, python, int(cpus), root)


_CAN_BUILD = """
from pipeline.errors import GoldspawnError
from pipeline.place import choose
try:
    choose("native")
except GoldspawnError as error:
    print(error.message)
"""

_ASK = """
base=${GOLDSPAWN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/goldspawn}/hosts
mkdir -p "$base" && chmod 700 "$base" && cd
find "$base" -mindepth 1 -maxdepth 1 -mtime +KEPT -exec rm -rf {} +
for python in PYTHONS; do
    lost=$("$python" -c 'import importlib.util as util, sys
print(*(name for name in sys.argv[1:] if util.find_spec(name) is None), sep=", ")' MODULES 2>/dev/null) || continue
    if [ -n "$lost" ]; then said="$python lacks $lost"; continue; fi
    case $python in */*) python=$(cd "$(dirname "$python")" && pwd)/${python##*/} ;; esac
    there=no; [ -d "$base/KEY" ] && touch "$base/KEY" && there=yes
    printf '%s\\n' "$base" "$python" "$(nproc)" "$there"; exit 0
done
echo "${said:-none of PYTHONS is there}" >&2; exit 3
"""


def _ask(host: Host, key: str) -> tuple[str, str, str, str]:
    pythons = shlex.join([host.python] if host.python else _PYTHONS)
    values = {"KEPT": str(_KEPT_DAYS), "PYTHONS": pythons, "MODULES": " ".join(MODULES), "KEY": key}
    script = _ASK
    for name, value in values.items():
        script = script.replace(name, value)
    said = _run(host, script, limit=_LIMIT).splitlines()
    if len(said) < 4:
        raise PlaceError(f"build host {host.address}: its shell does not answer as one should: {' '.join(said)}")
    return said[-4], said[-3], said[-2], said[-1]


def _ship(host: Host, freight: Freight, root: str) -> None:
    """Copies our files there; they appear whole, or not."""
    partial, whole = shlex.quote(f"{root}.$$"), shlex.quote(root)
    partial = partial.replace("$$", "'$$'")
    unpack = f"mkdir {partial} && tar --extract --file=- --numeric-owner --directory={partial} && "
    unpack += f"{{ mv -T {partial} {whole} 2>/dev/null || {{ rm -rf {partial}; test -d {whole}; }}; }}"
    with freight.packed() as tar:
        _run(host, unpack, limit=_SHIPPING, stdin=tar)


def _run(host: Host, command: str, *, limit: float, stdin: int = subprocess.DEVNULL) -> str:
    try:
        done = subprocess.run(host.ssh(command), stdin=stdin, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired as error:
        raise PlaceError(f"build host {host.address}: no answer within {limit:.0f} s") from error
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode == 255:  # ssh's own (ssh(1), EXIT STATUS)
        raise PlaceError(f"build host {host.address} cannot be reached: {said[-1] if said else 'ssh failed'}")
    if done.returncode != 0:
        hint = "run ./setup in a checkout there, and name its Python: //python=PATH" if done.returncode == 3 else None
        raise PlaceError(f"build host {host.address}: {said[-1] if said else f'status {done.returncode}'}", hint=hint)
    return done.stdout.decode(errors="replace")
