"""`python -m pipeline.appliance`: the appliance by hand, for looking inside and for cleaning up."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from pipeline.appliance import Share, namespace, recipe, running, save_state
from pipeline.appliance.link import control_path, joining
from pipeline.appliance.store import Store
from pipeline.appliance.tools import missing_tools
from pipeline.command import BuildLog
from pipeline.errors import GoldspawnError, PlaceError
from pipeline.user_cache import default_cache

REPOSITORY = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: that of the command, for `shell`."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.appliance", description=__doc__)
    parser.add_argument("-v", "--verbose", action="store_true", help="show every line of a build")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    shell = verbs.add_parser("shell", help="a shell, or `-- CMD ARG...`, in the appliance; the repository is shared")
    shell.add_argument("--write", type=Path, action="append", default=[], metavar="DIR", help="share DIR, writable")
    shell.add_argument("--read", type=Path, action="append", default=[], metavar="DIR", help="share DIR, read-only")
    shell.add_argument("argv", nargs="*", metavar="CMD")
    enter = verbs.add_parser("enter", help="the same in the appliance of a session that runs now")
    enter.add_argument("argv", nargs="*", metavar="CMD")
    verbs.add_parser("build", help="build it and save its state")
    verbs.add_parser("status", help="what is built, what is missing here")
    verbs.add_parser("clean", help="remove all that is cached, the pool too")
    options = parser.parse_args(arguments)
    with BuildLog(on_line=_shown if not options.verbose else _say) as log:
        try:
            if options.verb == "shell":
                return _shell(options.argv, options.read, options.write, log)
            if options.verb == "enter":
                return _enter(options.argv)
            if options.verb == "build":
                save_state(log)
            elif options.verb == "status":
                _status()
            else:
                _clean(log)
        except GoldspawnError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


def _shell(argv: list[str], read: list[Path], write: list[Path], log: BuildLog) -> int:
    shares = [Share(REPOSITORY, writable=False), Share(REPOSITORY / "artifacts", writable=True)]
    shares += [Share(path.absolute(), writable=False) for path in read]
    shares += [Share(path.absolute(), writable=True) for path in write]
    here = Path.cwd()
    inside = here if any(share.path in (here, *here.parents) for share in shares) else REPOSITORY
    with running(shares, log=log) as guest:
        told = [f"{key}={value}" for key, value in guest.environment.items()]
        command = ["env", "-C", str(inside), *told, *(argv or ["bash", "-l"])]
        return subprocess.run(guest.command(command, tty=sys.stdin.isatty() and sys.stdout.isatty())).returncode


def _enter(argv: list[str]) -> int:
    """Runs a command over the standing connection of the session that holds the appliance."""
    socket = control_path(Store(default_cache()).root)
    if socket is None or not socket.exists():
        raise PlaceError("no session holds the appliance just now", hint="`shell` starts one")
    command = joining(socket, argv or ["bash", "-l"], tty=sys.stdin.isatty() and sys.stdout.isatty())
    return subprocess.run(command).returncode


def _status() -> None:
    store = Store(default_cache())
    wanted = recipe.key()
    print(f"cache: {store.root}")
    for path in store.appliances():
        states = len(list(path.glob("state-*")))
        print(f"appliance {path.name}: {_size(path)}, {states} saved, {'current' if path.name == wanted else 'old'}")
    if not store.appliance(wanted).is_dir():
        print(f"appliance {wanted}: not built yet")
    print(f"pool: {_size(store.pool) if store.pool.exists() else 'none yet'}")
    print(f"held by: {holder if (holder := store.held_by()) and Path(f'/proc/{holder}').exists() else 'nobody'}")
    for tool, package in missing_tools():
        print(f"missing: {tool} (package {package})")


def _clean(log: BuildLog) -> None:
    store = Store(default_cache())
    if not store.root.is_dir():
        return
    with store.held(log):
        for path in store.root.iterdir():
            if path.is_dir():
                namespace.remove(path)
            elif path.name not in ("lock", "holder"):
                path.unlink()


def _size(path: Path) -> str:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return f"{sum(each.stat().st_blocks for each in files) * 512 / 1e6:.0f} MB"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _shown(line: str) -> None:
    if line.startswith(("appliance", "waiting", "the ", "building", "no virtiofsd", "copying", "E:")):
        _say(line)


if __name__ == "__main__":
    sys.exit(main())
