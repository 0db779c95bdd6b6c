"""`python -m pipeline.artifact check|show|choose|schema`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifact import choose, index, manifest, verify
from pipeline.artifact.room import size
from pipeline.command import output
from pipeline.errors import GoldspawnError, InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one of the commands; returns its exit status: 0, or 1 with one clear line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.artifact", description="Look at what builds produced.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="check|show|choose|schema")
    for name, text in (
        ("check", "compare the streams with their manifest, before they are received"),
        ("show", "print a short summary of a manifest"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("folder", type=Path, help="an artifact's folder, e.g. artifacts/web1")
    text = "say which streams a host should fetch: a chain of deltas, or the full one"
    command = commands.add_parser("choose", help=text, description=text)
    command.add_argument("index", type=Path, help="an artifact's folder, or a copy of its index.json")
    command.add_argument("dataset", nargs="?", help="the host's dataset: its snapshots, and those below it, are there")
    command.add_argument("--have", action="append", default=[], metavar="GUID", help="a snapshot is there (repeatable)")
    text = "print the JSON schema of manifest.json, or of index.json"
    command = commands.add_parser("schema", help=text, description=text)
    command.add_argument("file", nargs="?", choices=("manifest", "index"), default="manifest")
    chosen = parser.parse_args(arguments)
    try:
        print(_answer(chosen))
    except GoldspawnError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _answer(chosen: argparse.Namespace) -> str:
    if chosen.command == "schema":
        return (index.schema() if chosen.file == "index" else manifest.schema()).rstrip("\n")
    if chosen.command == "show":
        return verify.summary(manifest.load(chosen.folder))
    if chosen.command == "choose":
        return str(choose.plan(index.load(chosen.index), {*chosen.have, *_guids(chosen.dataset)}))
    checked = verify.check(chosen.folder)
    lines = [f"{chosen.folder / one.file} is whole: {size(one.size)}, SHA-256 {one.sha256}"
             for one in verify.streams(chosen.folder, checked)]  # fmt: skip
    return "\n".join(lines)


def _guids(dataset: str | None) -> list[str]:
    """The guids of the snapshots of a dataset on this machine, and of all below it. Raises `InputError` for none."""
    if dataset is None:
        return []
    listed = output(["zfs", "list", "-Hpr", "-t", "snapshot", "-o", "guid", dataset], check=False)
    if listed.status != 0:
        raise InputError(f"{dataset}: {listed.stderr.strip()}", hint="for a host that has nothing yet, name no dataset")
    return listed.stdout.split()


if __name__ == "__main__":
    sys.exit(main())
