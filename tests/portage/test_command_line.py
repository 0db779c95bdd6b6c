"""`python -m pipeline.portage` on a pair of roots: a dry run, and all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.portage.installed import installed
from tests.portage.world import World


@pytest.fixture
def ring(world: World) -> World:
    world.library("font", must=["shape"])
    world.library("shape", may=["font"], iuse="+glyphs", depend="glyphs? ( dev-libs/font:= )")
    return world


def call(world: World, command: str, *more: str) -> subprocess.CompletedProcess[str]:
    words = [
        sys.executable, "-m", "pipeline.portage", command, f"--emerge={world.builder}/bin/emerge",
        f"--root={world.target}", f"--config-root={world.target}", f"--env=PORTAGE_TMPDIR={world.folder}/tmp",
        "--env=PORTAGE_USERNAME=root", "--env=PORTAGE_GRPNAME=root", *more, "@system",
    ]  # fmt: skip
    return subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True)


def test_a_dry_run_draws_the_ring_and_its_break_and_merges_nothing(ring: World) -> None:
    done = call(ring, "plan")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 cycle, 1 break:\n  1. merge dev-libs/shape-1 with USE=-glyphs for now\n")
    assert "│      │ to build, :=, USE=glyphs" in done.stdout
    assert not installed(ring.target)


def test_a_dry_run_for_programs(ring: World) -> None:
    data = json.loads(call(ring, "plan", "--json").stdout)
    assert data["breaks"] == [
        {"method": "use", "root": "target", "packages": ["dev-libs/shape-1"], "flags": ["-glyphs"], "first": []}
    ]
    assert [edge["package"] for edge in data["cycles"][0]] == ["dev-libs/font-1", "dev-libs/shape-1"]


def test_all_of_it_with_progress(ring: World) -> None:
    done = call(ring, "resolve", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resolutions"] == 2
    assert "Emerging (1 of 1) dev-libs/shape-1" in done.stderr
    assert ring.needed("shape") == {"font"}


def test_in_the_root_of_this_very_machine_no_cycle_is_broken_unless_that_is_said(world: World) -> None:
    """Where emerge merges into this machine's /, a tool that is merged with --nodeps would be this machine's."""
    world.ebuild("dev-util/gen", bdepend="dev-util/mk")
    world.ebuild("dev-util/mk", bdepend="dev-util/gen")
    world.ebuild("app-misc/product", bdepend="dev-util/gen", system=True)
    spared = call(world, "plan", "--builder=/")
    assert "nothing opens this one:\n┌─▶ dev-util/gen-1 (builder)" in spared.stdout, spared.stdout + spared.stderr
    assert "- take a builder that has these already" in spared.stdout
    assert spared.stderr.endswith("--break-builder says that it may be\n")
    told = call(world, "plan", "--builder=/", "--break-builder")
    assert "1. merge dev-util/gen-1 with --nodeps, in the builder's /" in told.stdout, told.stdout + told.stderr


def test_plans_are_remembered_under_a_key_only(world: World, tmp_path: Path) -> None:
    done = call(world, "resolve", f"--memory={tmp_path / 'memory'}")
    assert (done.returncode, done.stderr.split(":")[0]) == (2, "--memory needs --key")


def test_a_variable_without_a_value_is_refused(ring: World) -> None:
    done = call(ring, "plan", "--env=nonsense")
    assert done.returncode == 2
    assert done.stderr == "--emerge needs a command, and --env NAME=VALUE\n"
