"""A package that fails in a builder root: what is thrown away afterwards is told before."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.command import BuildLog
from pipeline.errors import GoldspawnError
from pipeline.gentoo.folders import make_merged
from pipeline.image import load
from tests.gentoo.definition import definition

BROKEN = """\
EAPI=8
DESCRIPTION="x"
SLOT=0
KEYWORDS="amd64"
S="${WORKDIR}"
src_compile() { printf 'compiling %s\\n' {1..60}; echo 'int broken(' | gcc -c -x c - || die "no"; }
"""


@pytest.mark.usefixtures("made")
def test_the_build_log_of_a_builder_is_in_the_error_and_in_the_images_log(tars: Path, tmp_path: Path) -> None:
    for path, text in {
        "overlay/metadata/layout.conf": "masters = tiny\nthin-manifests = true\nprofile-formats = portage-2\n",
        "overlay/profiles/repo_name": "local\n",
        "overlay/profiles/here/eapi": "8\n",
        "overlay/profiles/here/parent": "tiny:default\n",
        "overlay/app-misc/broken/broken-1.ebuild": BROKEN,
        "image.toml": definition("app-misc/broken", profile="local:here", local='folder = "overlay"', more="jobs = 2"),
    }.items():
        file = tmp_path / "broken" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    with BuildLog(tmp_path / "log") as log, pytest.raises(GoldspawnError) as caught:
        make_merged(load(tmp_path / "broken"), tars / "merged.tar", log=log, max_age=86400.0, slowness=3.0)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("app-misc/broken-1 failed in its compile phase: ")
    assert "error:" in lines[0]
    assert "  compiling 60" in lines and "  compiling 20" not in lines
    assert f"whole log: {tmp_path}/log" in lines
    assert "compiling 20\n" in (tmp_path / "log").read_text()
