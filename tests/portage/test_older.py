"""All of it with older Portage, which tells one cycle only, in a text: real ones of PyPI, each in an environment."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

import pytest

from pipeline.portage import resolve
from pipeline.portage.installed import installed
from tests.portage.record import rings
from tests.portage.world import World


@pytest.mark.parametrize("version", ["3.0.57", "3.0.78"])
def test_rings_of_target_and_builder(world: World, tmp_path: Path, version: str) -> None:
    made = tmp_path / "portage"
    venv.create(made, with_pip=True)
    pip = [made / "bin/python", "-m", "pip", "install", "--quiet", f"portage=={version}"]
    subprocess.run(pip, check=True, capture_output=True)
    older = World(tmp_path / "older", made)
    rings(older)
    emerge = older.emerge()
    assert emerge.version == tuple(map(int, version.split(".")))
    outcome = resolve(emerge, ["@system"])
    assert sorted(map(str, outcome.breaks)) == [
        "merge dev-libs/shape-1 with USE=-glyphs for now",
        "merge dev-util/gen-1 with --nodeps, in the builder's /",
    ]
    assert (older.needed("font"), older.needed("shape")) == ({"shape", "zip"}, {"font"})
    assert "glyphs" in installed(older.target)["dev-libs/shape-1"].fact("USE").split()
