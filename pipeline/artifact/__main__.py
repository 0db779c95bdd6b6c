"""`python -m pipeline.artifact check|show FOLDER` and `python -m pipeline.artifact schema`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifact import manifest, verify
from pipeline.artifact.room import size
from pipeline.errors import GoldspawnError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one of the commands; returns its exit status: 0, or 1 with one clear line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.artifact", description="Look at what builds produced.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="check|show|schema")
    for name, text in (
        ("check", "compare a stream with its manifest, before it is received"),
        ("show", "print a short summary of a manifest"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("folder", type=Path, help="an artifact's folder, e.g. artifacts/web1")
    commands.add_parser("schema", help="print the JSON schema of manifest.json")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "schema":
            print(manifest.schema(), end="")
        elif chosen.command == "show":
            print(verify.summary(manifest.load(chosen.folder)))
        else:
            stream = verify.check(chosen.folder).stream
            print(f"{chosen.folder / stream.file} is whole: {size(stream.size)}, SHA-256 {stream.sha256}")
    except GoldspawnError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
