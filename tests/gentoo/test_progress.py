"""Progress of a real emerge: from Portage's own status file, and from its lines where it writes none."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.command import BuildLog
from pipeline.gentoo.counting import Counting
from pipeline.portage import status
from tests.portage.world import World

SLOW = 'S="${WORKDIR}"\nsrc_compile() { sleep 4; }\n'


def progress(world: World, features: str) -> list[str]:
    """The lines that tell how far it is, of three packages of which two can be built at once."""
    world.ebuild("app-misc/quick")
    for name in ("one", "two"):
        world.ebuild(f"app-misc/{name}", body=SLOW, depend="app-misc/quick")
    read = partial(status.read, Path(status.FOLDER), str(world.target))
    log = Counting(BuildLog(on_line=world.lines.append), read, every=0.4)
    emerge = replace(world.emerge("--jobs=2", FEATURES=f"notitles {features}"), log=log)
    emerge.merge("app-misc/one", "app-misc/two")
    assert read() is None, "the file is gone with its emerge"
    return [line for line in world.lines if re.match(r"\d+ of \d+, ", line)]


def test_portage_itself_says_which_phase_and_for_how_long(world: World) -> None:
    lines = progress(world, "")
    assert lines[0] == "1 of 3, app-misc/quick-1"
    told = r"2 of 3, app-misc/(one|two)-1 compile, 0:0\d, 2 jobs, about \d+ s left"
    assert any(re.fullmatch(told, line) for line in lines), lines


def test_without_that_the_lines_of_emerge_tell(world: World) -> None:
    lines = progress(world, "-observability")
    told = r"2 of 3, app-misc/(one|two)-1, 0:0\d, 2 jobs, about \d+ s left"
    assert any(re.fullmatch(told, line) for line in lines), lines
    assert not any("compile" in line for line in lines)


def test_a_feature_that_there_is_not_is_still_warned_of(world: World) -> None:
    """A typo of the user's must not go unseen because of a word that we add for some versions of Portage."""
    world.ebuild("app-misc/one")
    file = world.target / "etc/portage/make.conf"
    file.write_text(file.read_text().replace('FEATURES="', 'FEATURES="paralel-install ', 1))
    emerge = world.emerge()
    emerge.merge("app-misc/one")
    emerge.logging(emerge.log).merge("app-misc/one")
    assert sum(line.endswith("/emerge --version") for line in world.lines) == 1, (
        "asked once, for all that is made of it"
    )
    warnings = [line for line in world.lines if "FEATURES variable contains unknown value(s)" in line]
    assert warnings
    assert all("paralel-install" in line and "observability" not in line for line in warnings)
