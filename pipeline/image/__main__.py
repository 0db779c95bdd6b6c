"""`python -m pipeline.image`: writes the schema and the reference page of image.toml; `--check` only looks."""

from __future__ import annotations

import argparse
import sys

from pipeline.image.document import documents
from pipeline.image.reading import shown


def main() -> int:
    """Returns the exit status: 1 if `--check` found a file that is out of date."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.image", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a file is out of date")
    check = parser.parse_args().check
    status = 0
    for path, text in documents().items():
        current = path.read_text(encoding="utf-8") if path.exists() else None
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {shown(path)}")
        elif current != text:
            print(f"{shown(path)} is out of date: run python -m pipeline.image")
            status = 1
    return status


sys.exit(main())
