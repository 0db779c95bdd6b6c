"""What is new since the version before: packages, and how it boots."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipeline import changes
from pipeline.artifact import manifest
from pipeline.artifact.manifest import Boot, Package, Place
from tests.test_pages import MANIFEST

NATIVE, KVM, TCG = Place("native", "none"), Place("appliance", "kvm"), Place("appliance", "tcg")


def since(folder: Path, before: Place, place: Place, *, version: str = "later") -> manifest.Changes | None:
    """Against a version that booted in 2 s there, one that booted in 25 s here."""
    dataclasses.replace(MANIFEST, place=before, boot=Boot(2.0, {})).save(folder)
    listed = (Package("nginx", "1.3", "amd64"), Package("curl", "8", "amd64"))
    return changes.since(folder, listed, Boot(25.0, {"nginx.service": 20.0}), version, place)


def test_packages_are_told_by_name(tmp_path: Path) -> None:
    found = since(tmp_path, NATIVE, NATIVE)
    assert found is not None and found.version == MANIFEST.version
    assert (found.added, found.removed, found.updated) == ({"curl:amd64": "8"}, {}, {"nginx:amd64": ("1.2", "1.3")})


@pytest.mark.parametrize(("before", "here"), [(NATIVE, TCG), (KVM, TCG), (TCG, NATIVE), (NATIVE, KVM)])
def test_boots_in_unlike_places_are_not_compared(before: Place, here: Place, tmp_path: Path) -> None:
    found = since(tmp_path, before, here)
    assert found is not None and found.boots == ""
    assert found.added, "only the boots are not"


@pytest.mark.parametrize("here", [NATIVE, KVM, TCG])
def test_boots_in_like_places_are(here: Place, tmp_path: Path) -> None:
    found = since(tmp_path, here, here)
    assert found is not None
    assert found.boots == f"boots 23.0 s later than version {MANIFEST.version}: nginx.service"


def test_the_same_version_again_says_what_it_said(tmp_path: Path) -> None:
    assert since(tmp_path, NATIVE, TCG, version=MANIFEST.version) == MANIFEST.changes


def test_without_an_earlier_version_nothing_is_new(tmp_path: Path) -> None:
    assert changes.since(tmp_path, (), None, "first", NATIVE) is None
