"""Overlays from git whose commits must be signed: the real emaint verifies them, with gemato as a Gentoo has it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gemato
import pytest

from pipeline.errors import CommandFailed
from pipeline.gentoo.host import HostPortage
from pipeline.image import load
from tests.gentoo.served import git
from tests.portage.world import World


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[Path]:
    """A folder of gpg's with one key, and that key beside it as key.asc."""
    home = tmp_path / "signer"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--batch", "--homedir", str(home)]
    subprocess.run([*gpg, "--passphrase", "", "--quick-generate-key", "team@x"], check=True, capture_output=True)
    armour = subprocess.run([*gpg, "--armor", "--export"], check=True, capture_output=True).stdout
    (tmp_path / "key.asc").write_bytes(armour)
    try:
        yield home
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


def remote(folder: Path, *options: str) -> str:
    """A repository `team` of one commit; returns its address."""
    for path, text in {"profiles/repo_name": "team\n", "metadata/layout.conf": "masters = tiny\n"}.items():
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(text)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, *options, "commit", "--quiet", "--message", "first")
    return f"file://{folder}"


def asking(host: HostPortage, world: World, uri: str, key: Path) -> HostPortage:
    """The workshop for an image that takes `team` from there, by that key."""
    site = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    (world.builder / site / "gemato").symlink_to(Path(gemato.__file__).parent)
    file = host.image.folder / "image.toml"
    file.write_text(f'{file.read_text()}[[bootstrap.repositories]]\nname = "team"\ngit = "{uri}"\nkey = "{key}"\n')
    return replace(host, image=load(host.image.folder))


def test_a_commit_by_the_key_is_taken(host: HostPortage, world: World, signer: Path, tmp_path: Path) -> None:
    options = [f"gpg.program={tmp_path}/sign", "user.signingKey=team@x", "commit.gpgSign=true"]
    (tmp_path / "sign").write_text(f'#!/bin/sh\nexec gpg --homedir {signer} "$@"\n')
    (tmp_path / "sign").chmod(0o755)
    uri = remote(tmp_path / "team", *(word for option in options for word in ("-c", option)))
    workshop = asking(host, world, uri, tmp_path / "key.asc")
    assert (workshop.repositories["team"] / "profiles/repo_name").read_text() == "team\n"
    assert "Trusted signature found on top commit" in "\n".join(world.lines)


def test_a_commit_without_a_signature_is_refused(host: HostPortage, world: World, signer: Path, tmp_path: Path) -> None:
    """And so it is when it is there already and image.toml pins it."""
    asking(host, world, remote(tmp_path / "team"), tmp_path / "key.asc")
    for pin in ("", f'commit = "{git(tmp_path / "team", "rev-parse", "HEAD")}"\n'):
        file = host.image.folder / "image.toml"
        file.write_text(file.read_text() + pin)
        workshop = replace(host, image=load(host.image.folder))
        with pytest.raises(CommandFailed, match="repository team cannot be synced") as caught:
            assert workshop.repositories
        assert "No valid signature found: no signature" in str(caught.value)


def test_a_commit_that_was_refused_is_not_taken_by_its_pin(
    host: HostPortage, world: World, signer: Path, tmp_path: Path
) -> None:
    """Git has fetched it before it could be verified; an older one that the verified one descends from is right."""
    options = [f"gpg.program={tmp_path}/sign", "user.signingKey=team@x", "commit.gpgSign=true"]
    (tmp_path / "sign").write_text(f'#!/bin/sh\nexec gpg --homedir {signer} "$@"\n')
    (tmp_path / "sign").chmod(0o755)
    signing = [word for option in options for word in ("-c", option)]
    uri = remote(tmp_path / "team")
    first = git(tmp_path / "team", "rev-parse", "HEAD")
    git(tmp_path / "team", *signing, "commit", "--quiet", "--allow-empty", "--message", "second")
    asking(host, world, uri, tmp_path / "key.asc")
    file = host.image.folder / "image.toml"
    text = file.read_text()

    def pinned(commit: str) -> HostPortage:
        file.write_text(f'{text}commit = "{commit}"\n')
        return replace(host, image=load(host.image.folder))

    assert (pinned(first).repositories["team"] / "profiles/repo_name").exists()
    git(tmp_path / "team", "commit", "--quiet", "--allow-empty", "--message", "third, by nobody")
    refused = git(tmp_path / "team", "rev-parse", "HEAD")
    for _ in range(2):
        with pytest.raises(CommandFailed, match="repository team cannot be synced"):
            assert pinned(refused).repositories
    assert (pinned(first).repositories["team"] / "profiles/repo_name").exists()
