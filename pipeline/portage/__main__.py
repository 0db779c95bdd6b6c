"""`python -m pipeline.portage plan|resolve --root R @system …`: cycles of any pair of roots, shown or resolved.

Needs neither ZFS nor a machine. `plan` is a dry run: it asks emerge once, merges nothing, and prints the cycles, each
as a drawing with the reason of every edge, and the breaks that would open them. `resolve` does it all: breaks, the
sets, building again what was incomplete, the checks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.command import BuildLog
from pipeline.errors import GoldspawnError
from pipeline.portage import Emerge, Memory, Options, Plan, plan_of, resolve
from pipeline.portage.asking import resolution
from pipeline.portage.drawing import advice, draw
from pipeline.portage.report import Report

DRAWN = 5
"""How many cycles are drawn; the rest is counted. With --all, all."""

_PASSED = re.compile(
    r"(?:PORTAGE(?!_CONFIGROOT)|EMERGE|GENTOO|ACCEPT|BINPKG|FEATURES|USE|MAKEOPTS|DISTDIR|PKGDIR|EPREFIX|FETCHCOMMAND|RESUMECOMMAND)(?:_|$)|"
    r"(?:https?|ftp|no)_proxy$"
)
"""What of this process's own environment emerge gets, as if it were typed here."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.portage",
        description="Circular build dependencies of an emerge: found, opened, mended.",
        epilog="example: python -m pipeline.portage plan --root /mnt/gentoo @system",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="plan|resolve")
    for name, text in (
        ("plan", "print the cycles and where they would be opened; merges nothing"),
        ("resolve", "merge the sets: open the cycles, mend what that broke, check the result"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("sets", nargs="+", metavar="@SET|ATOM", help="what to merge, e.g. @system @world @profile")
        command.add_argument("--root", required=True, help="the target, as emerge sees it; / for the builder's own")
        command.add_argument("--seen", type=Path, help="the target as this process sees it (default: as --root)")
        command.add_argument("--builder", type=Path, help="the / of emerge as this process sees it (default: unseen)")
        command.add_argument("--config-root", default="", help="where etc/portage is (default: the target)")
        command.add_argument(
            "--emerge", default="emerge", metavar="CMD",
            help="emerge, with what stands before it, e.g. /venv/bin/emerge or 'chroot /builder emerge'",
        )  # fmt: skip
        command.add_argument("--option", action="append", default=[], help="an option for each emerge; repeatable")
        command.add_argument(
            "--env", action="append", default=[], metavar="NAME=VALUE", help="a variable for emerge; repeatable"
        )
        command.add_argument(
            "--break-builder", action="store_true",
            help="cycles among build tools may be opened in the / of emerge even if that is this machine's own",
        )  # fmt: skip
        command.add_argument("--binaries", action="store_true", help="cycles may be opened with binary packages")
        command.add_argument("--log", type=Path, help="a file for all that emerge prints")
        command.add_argument("--json", action="store_true", help="print the result for programs")
        if name == "plan":
            command.add_argument("--all", action="store_true", help=f"draw all cycles, not only {DRAWN}")
        else:
            command.add_argument("--memory", type=Path, help="a folder where solved plans are kept")
            command.add_argument("--key", default="", help="what the plan depends on: the tree's commit, the profile")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one of the commands; returns its exit status: 0, or 1 with one clear line on standard error."""
    chosen = _parser().parse_args(arguments)
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {line}", file=sys.stderr, flush=True)

    def progress(line: str) -> None:
        if line.startswith((">>> Emerging", ">>> Completed")):
            say(line.removeprefix(">>> "))

    words = shlex.split(chosen.emerge)
    if getattr(chosen, "memory", None) is not None and not chosen.key:
        print("--memory needs --key: what the plans depend on, such as the tree's commit", file=sys.stderr)
        return 2
    if not words or any("=" not in pair for pair in chosen.env):
        print("--emerge needs a command, and --env NAME=VALUE", file=sys.stderr)
        return 2
    with BuildLog(chosen.log, progress) as log:
        environment = {name: value for name, value in os.environ.items() if _PASSED.match(name)}
        environment.update(pair.split("=", 1) for pair in chosen.env)
        emerge = Emerge.of_command(
            words, chosen.root, chosen.seen, config_root=chosen.config_root, builder=chosen.builder,
            options=tuple(chosen.option), environment=environment, log=log,
        )  # fmt: skip
        memory = Memory(chosen.memory, chosen.key) if getattr(chosen, "memory", None) is not None else None
        own = emerge.builder is not None and emerge.builder.resolve() == Path("/")
        options = Options(binaries=chosen.binaries, memory=memory, spare_builder=own and not chosen.break_builder)
        try:
            if chosen.command == "plan":
                report = resolution(emerge, chosen.sets)
                plan = plan_of(emerge, report, options)
                print(
                    _as_json(report, plan)
                    if chosen.json
                    else _shown(report, plan, len(report.cycles) if chosen.all else DRAWN)
                )
                if plan.closed and options.spare_builder:
                    print(_SPARED, file=sys.stderr)
            else:
                outcome = resolve(emerge, chosen.sets, options, say=say)
                print(json.dumps(outcome.as_json(), indent=2) if chosen.json else outcome)
        except GoldspawnError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


_SPARED = "nothing is broken in the builder's /, which is this machine's own: --break-builder says that it may be"


def _shown(report: Report, plan: Plan, most: int) -> str:
    """The plan for people."""
    parts = [str(plan)]
    shortest = sorted(report.cycles, key=lambda ring: (len(ring.edges), str(ring)))
    parts += [draw(ring, plan.breaks) for ring in shortest[:most]]
    if len(shortest) > most > 0:
        parts.append(f"and {len(shortest) - most} longer ones (--all draws them)")
    for ring in plan.closed:
        parts.append(
            f"nothing opens this one:\n{draw(ring)}\nwhat could be changed:\n{advice(ring, report.suggestions)}"
        )
    return "\n\n".join(parts)


def _as_json(report: Report, plan: Plan) -> str:
    """The plan for programs."""
    cycles = [
        [
            {
                "package": edge.parent.cpv, "root": edge.parent.root, "needs": edge.child.cpv, "kind": edge.kind,
                "flags": list(edge.flags),
            }
            for edge in ring.edges
        ]
        for ring in report.cycles
    ]  # fmt: skip
    data = {
        "cycles": cycles,
        "breaks": plan.as_json(),
        "exact": plan.exact,
        "closed": [str(ring) for ring in plan.closed],
    }
    return json.dumps(data, indent=2)


if __name__ == "__main__":
    sys.exit(main())
