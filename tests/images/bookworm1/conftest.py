"""pytest-testinfra's own test cases: they are in its source package, and in no other."""

from __future__ import annotations

import importlib.metadata
import sys
import tarfile
from pathlib import Path

import pytest

from pipeline.command import BuildLog, run

CASES = "made/cases.py"
"""Where the file with the cases is, relative to the image's folder; under another name, pytest would collect it."""


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marks of that file known."""
    config.addinivalue_line("markers", "testinfra_hosts(hosts): where pytest-testinfra runs a case")
    config.addinivalue_line("markers", "destructive: nobody wants the host afterwards")


def pytest_goldspawn_prepare(folder: Path, log: BuildLog) -> None:
    version = importlib.metadata.version("pytest-testinfra")
    known = folder / "made/version"
    if known.exists() and known.read_text() == version:
        return
    (folder / "made").mkdir(exist_ok=True)
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=pytest-testinfra",
            f"--dest={folder / 'made'}", f"pytest-testinfra=={version}"]  # fmt: skip
    run(argv, log=log, timeout=300, hint="the index of Python packages does not answer, or has no source package")
    (package,) = (folder / "made").glob(f"pytest_testinfra-{version}.tar.gz")
    with tarfile.open(package) as archive:
        file = archive.extractfile(f"pytest_testinfra-{version}/test/test_modules.py")
        assert file is not None
        (folder / CASES).write_bytes(file.read())
    known.write_text(version)
