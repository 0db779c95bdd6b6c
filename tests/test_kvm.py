"""Whether KVM is tried rather than believed: with stand-ins for QEMU, for a KVM that fails is hard to come by."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pipeline.appliance.kvm import Accelerator, probe


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "kvm"
    path.touch()
    return path


def stand_in(tmp_path: Path, script: str) -> str:
    path = tmp_path / "qemu"
    path.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_guest_that_starts_means_kvm(tmp_path: Path, device: Path) -> None:
    qemu = stand_in(tmp_path, "echo '[    0.000000] Linux version 6.12'; sleep 60")
    started = time.monotonic()
    assert probe(tmp_path / "vmlinuz", tmp_path / "verdict", qemu=qemu, device=device).name == "kvm"
    assert time.monotonic() - started < 2.5


def test_a_kvm_that_refuses_means_tcg_and_says_why(tmp_path: Path, device: Path) -> None:
    qemu = stand_in(tmp_path, "echo 'error: failed to set MSR 0x10a to 0x0' >&2; exit 1")
    verdict = probe(tmp_path / "vmlinuz", tmp_path / "verdict", qemu=qemu, device=device)
    assert verdict.name == "tcg"
    assert "0x10a" in verdict.why


def test_a_kvm_that_hangs_costs_three_seconds_once_for_each_boot_of_the_host(tmp_path: Path, device: Path) -> None:
    qemu = stand_in(tmp_path, "sleep 60")
    first = probe(tmp_path / "vmlinuz", tmp_path / "verdict", qemu=qemu, device=device)
    assert (first.name, first) == ("tcg", probe(tmp_path / "vmlinuz", tmp_path / "verdict", qemu=qemu, device=device))
    assert (tmp_path / "runs").read_text().count("run") == 1
    kept = json.loads((tmp_path / "verdict").read_text())
    (tmp_path / "verdict").write_text(json.dumps({**kept, "key": "another boot"}))
    stand_in(tmp_path, "echo Linux version")
    assert probe(tmp_path / "vmlinuz", tmp_path / "verdict", qemu=qemu, device=device).name == "kvm"


def test_a_damaged_verdict_is_no_verdict(tmp_path: Path, device: Path) -> None:
    (tmp_path / "verdict").write_text("[")
    qemu = stand_in(tmp_path, "echo Linux version")
    assert probe(tmp_path / "vmlinuz", tmp_path / "verdict", qemu=qemu, device=device).name == "kvm"


def test_no_device_means_tcg_without_trying(tmp_path: Path) -> None:
    verdict = probe(tmp_path / "vmlinuz", tmp_path / "verdict", qemu="/nowhere", device=tmp_path / "kvm")
    assert verdict == Accelerator("tcg", f"{tmp_path}/kvm is missing")
