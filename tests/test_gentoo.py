"""Gentoo on a host with ZFS and systemd: the builder root is a clone, entered with systemd-nspawn.

(The image gentoo1 is merged by the machine outside of the appliance, where that is ten times faster.)
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.image import load
from pipeline.place import Place
from pipeline.reuse.inputs import keys
from pipeline.reuse.marks import unpacked
from pipeline.reuse.plan import Policy
from pipeline.throwaway import OWNER, copied
from pipeline.workspace import open_workspace
from pipeline.zfs import Zfs
from tests.conftest import REPOSITORY, Sessions

MADE = REPOSITORY / "tests/images/gentoo1/made"

DEFINITION = f"""
[bootstrap]
method = "gentoo"
profile = "local:host/gentoo1"
main_repository = "tiny"
sets = SETS
[bootstrap.builder]
tarball = "{MADE}/builder.tar.zst"
[[bootstrap.repositories]]
name = "tiny"
folder = "{MADE}/tiny"
[[bootstrap.repositories]]
name = "local"
folder = "{REPOSITORY}/tests/gentoo/overlay"
"""


@pytest.fixture
def gentoo(sessions: Sessions) -> Callable[[str, list[str]], Sessions]:
    """Sessions with a Gentoo image of that name and of these sets."""
    if not (MADE / "builder.tar.zst").exists():
        pytest.fail(f"{MADE} holds no builder: run with the image, `pytest --image gentoo1`, first")

    def made(name: str, sets: list[str]) -> Sessions:
        sessions.image(name, DEFINITION.replace("SETS", str(sets).replace("'", '"')))
        return sessions

    return made


def left(name: str, place: Place) -> list[str]:
    """The clones of an image and of its builder that are left."""
    names = subprocess.run(["zfs", "list", "-Hro", "name", place.layout.boots], capture_output=True, text=True).stdout
    return [one for one in names.split() if f"/{name}-gs" in one]


def test_what_has_nothing_to_plan_says_so_and_builds_nothing(
    gentoo: Callable[[str, list[str]], Sessions], place: Place
) -> None:
    sessions = gentoo("below", ["sys-apps/baselayout"])
    sessions.image("upon", 'from = "below"\n')
    sessions.image("binary", (REPOSITORY / "tests/images/web1/image.toml").read_text().replace("web1", "binary"))
    ended = sessions.run("--plan", "--image=upon", "--image=binary")
    assert "planned only, as asked: it stands on below, whose sets are merged there" in ended.output
    assert "planned only, as asked: no cycles: packages are binary" in ended.output
    assert not ended.outcomes("FAILED"), ended.output
    assert ended.outcomes("PASSED") == ["dataset", "dataset"], ended.output
    assert not list(sessions.artifacts.glob("*/manifest.json"))


def test_a_cycle_is_planned_and_then_opened_in_datasets_after_a_trial_in_a_clone(
    gentoo: Callable[[str, list[str]], Sessions], place: Place
) -> None:
    sessions = gentoo("ringed", ["media-libs/glyph", "media-libs/shaper"])
    file = sessions.images / "ringed/image.toml"
    file.write_text(file.read_text().replace("main_repository", 'binary = "never"\nmain_repository'))
    log = sessions.artifacts / "logs/ringed.log"
    until_cycles = ["-k", "dataset or bootstrap or cycles"]
    planned = sessions.run(*until_cycles, "--plan", "--max-age=0")
    assert planned.outcomes("SKIPPED") == ["cycles"], planned.output
    assert "1 cycle, 1 break" in planned.output
    assert "Completed" not in log.read_text()

    ended = sessions.run(*until_cycles)
    assert ended.outcome("cycles") == "PASSED", ended.output
    told = log.read_text()
    assert told.index("merge media-libs/shaper-1 with --nodeps") < told.index("Completed"), "planned, or as last time"
    assert "systemd-nspawn" in told
    assert not Path("/var/db/pkg").exists() and not Path("/etc/portage").exists(), "merged into the host"
    assert shutil.which("emerge") is None
    layers = Zfs().entries(place.layout.bootstraps)
    facts = [unpacked(entry.properties.get("cycles")) for entry in layers]
    # in a pool that was kept there are layers of older code, whose marks are read as nothing
    breaks = [[step["packages"] for step in one["breaks"]] for one in facts if one]
    assert [["media-libs/shaper-1"]] in breaks, facts

    again = sessions.run(*until_cycles, "--plan")
    assert again.outcomes("SKIPPED") == ["cycles"], again.output
    assert "1 cycle, 1 break" in again.output, "though all is merged already"
    assert left("ringed", place) == []


def test_a_profile_that_does_not_exist_is_told_with_the_nearest(
    gentoo: Callable[[str, list[str]], Sessions], place: Place
) -> None:
    sessions = gentoo("lost", ["@system"])
    file = sessions.images / "lost/image.toml"
    file.write_text(file.read_text().replace("local:host/gentoo1", "local:host/gentoo2"))
    ended = sessions.run("-k", "cycles")
    assert ended.outcomes("FAILED") == ["cycles"], ended.output
    assert 'bootstrap.profile of image.toml: "local:host/gentoo2": repository local has no such profile' in ended.output
    assert "the nearest: local:host/gentoo1" in ended.output
    assert "Traceback" not in ended.output


def test_a_break_is_tried_in_clones_and_a_killed_trial_is_swept(sessions: Sessions, place: Place) -> None:
    zfs, boots = Zfs(), place.layout.boots
    image = load(sessions.image("tried"))
    dead = {**OWNER, "process": "1:1"}
    for name in ("tried-gs1.builder", "tried-gs1"):  # as a killed run leaves them: a tree, and clones of it
        zfs.create(f"{boots}/{name}", properties={"compression": "lz4"}, marks=dead)
    zfs.snapshot(f"{boots}/tried-gs1.builder@trial")
    zfs.clone(f"{boots}/tried-gs1.builder@trial", f"{boots}/tried-gs1.trial", marks=dead)
    with zfs.mounted(f"{boots}/tried-gs1", place.mountpoint("tried")) as tree:
        (tree / "file").write_text("as it was")
        with copied(tree, image="tried", place=place, zfs=zfs) as copy:
            assert (copy / "file").read_text() == "as it was"
            (copy / "file").write_text("changed")
        assert (tree / "file").read_text() == "as it was"
    assert sorted(left("tried", place)) == [f"{boots}/tried-gs1{end}" for end in ("", ".builder", ".trial")]
    open_workspace(image, place, keys(image), zfs, policy=Policy(frozen=True), wait=print).close()
    assert left("tried", place) == []
