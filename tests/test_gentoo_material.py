"""The material for Gentoo images: the repository is whole, and Portage in the builder reads it as in a stage3."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.appliance import namespace
from tests.gentoo import builder, repository

MATERIAL = Path(__file__).parent / "gentoo"
TO_TARGET = ("--root=/target", "--sysroot=/target", "--config-root=/target")


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repositories")
    repository.write(folder / "tiny")
    shutil.copytree(MATERIAL / "overlay", folder / "local")
    return folder


def test_every_ebuild_has_digests_and_a_cache_entry(repositories: Path) -> None:
    tiny = repositories / "tiny"
    ebuilds = sorted(tiny.glob("*/*/*.ebuild"))
    assert len(ebuilds) == len(list((MATERIAL / "ebuilds").glob("*/*/*.ebuild")))
    for ebuild in ebuilds:
        files = re.findall(r"mirror://debian/\S+/(\S+)", ebuild.read_text())
        manifest = ebuild.with_name("Manifest").read_text() if files else ""
        assert sorted(files) == re.findall(r"^DIST (\S+) \d+ SHA256 [0-9a-f]{64}$", manifest, re.MULTILINE)
        assert (tiny / "metadata/md5-cache" / ebuild.parent.parent.name / ebuild.stem).is_file()


def test_a_repository_that_is_up_to_date_is_left_alone(repositories: Path) -> None:
    before = (repositories / "tiny").stat().st_ino
    repository.write(repositories / "tiny")
    assert (repositories / "tiny").stat().st_ino == before


def test_the_templates_name_no_mirror() -> None:
    texts = [path.read_text() for path in MATERIAL.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert not [found for text in texts for found in re.findall(r"(?:https?|ftp|rsync)://(?!127\.0\.0\.1)\S+", text)]


def test_emerge_in_the_builder_lists_the_system_and_tells_the_planted_cycle(repositories: Path, tmp_path: Path) -> None:
    # Where gentoo1 has it as well: it is made once for both.
    tar = MATERIAL.parent / "images/gentoo1/made/builder.tar.zst"
    builder.make(tar)
    target = tmp_path / "target/etc/portage"
    target.mkdir(parents=True)
    (target / "make.profile").symlink_to("/var/db/repos/local/profiles/host/gentoo1")
    (target / "repos.conf").write_text("[local]\nlocation = /var/db/repos/local\n")
    (tmp_path / "builder").mkdir()
    script = 'tar --extract --file="$1" --directory=builder; shift; exec sh "$@"'
    enter = [str(MATERIAL / "enter.sh"), "builder", str(repositories), "target", "cache"]
    emerge = ["emerge", *TO_TARGET, "--color=n", "--quiet", "--pretend"]
    try:
        argv = ["sh", "-ec", script, "sh", str(tar), *enter, "sh", "-c", f"{' '.join(emerge)} @system @profile"]
        done = subprocess.run(
            namespace.inside(argv, processes=True), cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
    finally:
        namespace.remove(tmp_path / "builder")
    merged = re.findall(r"^\[ebuild +N +~?\] +(\S+)-\d\S* to /target/", done.stdout, re.MULTILINE)
    assert done.returncode == 1, done.stdout + done.stderr
    assert {"media-libs/glyph", "media-libs/shaper", "app-misc/hello"} <= set(merged), done.stdout + done.stderr
    assert "circular dependencies" in done.stdout + done.stderr
