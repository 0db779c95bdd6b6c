"""Records what an emerge says of cycles, as test data: `python -m tests.portage.record VENV…`, run by hand.

Each VENV has a Portage of PyPI. What is written stands below tests/portage/data/VERSION, with the paths of the world
it was made in replaced by /gentoo.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from pipeline.portage.emerge import JSON_SINCE
from tests.portage.world import World

DATA = Path(__file__).parent / "data"


def rings(world: World) -> None:
    """A ring that a flag opens, one in the builder, and what stands beside them."""
    world.library("zip", system=False)
    world.library("font", must=["shape", "zip"])
    world.library("shape", may=["font"], iuse="+glyphs", depend="glyphs? ( dev-libs/font:= )")
    world.ebuild("dev-util/gen", bdepend="dev-util/mk")
    world.ebuild("dev-util/mk", bdepend="dev-util/gen")
    world.ebuild("app-misc/product", bdepend="dev-util/gen", system=True)


def main() -> None:
    for venv in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder), Path(venv))
            rings(world)
            emerge = world.emerge()
            version = ".".join(map(str, emerge.version))
            forms = {"text": [], "debug": ["--debug"]}
            if emerge.version >= JSON_SINCE:
                json = "--circular-deps-report=json"
                forms |= {"json": [json], "json-debug": [json, "--debug"]}
            for form, options in forms.items():
                answer = emerge.ask(*options, "@system")
                (DATA / version).mkdir(parents=True, exist_ok=True)
                for end, text in (("out", answer.stdout), ("err", answer.stderr)):
                    clean = "\n".join(line.rstrip() for line in text.replace(folder, "/gentoo").splitlines())
                    (DATA / version / f"{form}.{end}").write_text(clean + "\n")


if __name__ == "__main__":
    main()
