"""The page of an image: what became of it, readable by anybody, and harmless whatever stands in logs and messages."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline import remains
from pipeline.artifact import manifest
from pipeline.plugin import pages
from pipeline.report import Page, Part, Row, render

EVIL = "<script>alert('x')</script>"

MANIFEST = manifest.Manifest(
    image="web",
    version="20260102T030405Z",
    time=datetime(2026, 1, 2, tzinfo=UTC),
    input_hash="0",
    snapshot=manifest.Snapshot("p/golden/web@1", "1"),
    stream=manifest.Stream("web.zfs", 5 << 20, "0" * 64, ()),
    versions=manifest.Versions("2.3", "257", "0.1", "6.12"),
    place=manifest.Place("native", "none"),
    checks=(),
    tree=manifest.Tree("0" * 64, 1, 1),
    packages=(manifest.Package("nginx", "1.2", "amd64"),),
    receive="zfs recv tank/web < web.zfs",
    settings=manifest.Settings("web.nspawn", None, ("Bridge=br0: on the build's own segment",)),
    boot=manifest.Boot(3.5, {"nginx.service": 1.25}),
    changes=manifest.Changes(
        "20260101T000000Z", {"curl": "8"}, {"wget": "1"}, {"nginx": ("1.1", "1.2")}, "boots later"
    ),
)


def page(**other: object) -> Page:
    first = Page("web", "2026-01-02 03:04", [Row("boot", 2.0, "passed", "healthy")], [], "the log", manifest=MANIFEST,
                 boot=MANIFEST.boot, packages=MANIFEST.packages)  # fmt: skip
    return dataclasses.replace(first, **other)  # type: ignore[arg-type]


def test_a_page_says_what_was_built() -> None:
    text = render(page(receive=["zfs recv tank/web < web.zfs"]))
    for said in ("web <span class=\"state passed\">passed", "5.0 MiB", "zfs recv tank/web &lt; web.zfs",
                 "1.1</td><td>1.2", "curl", "gone", "boots later", "Bridge=br0", "nginx.service", "1.250",
                 "healthy", 'href="index.html"'):  # fmt: skip
        assert said in text, said


@pytest.mark.parametrize(
    "other",
    [
        {"log": EVIL},
        {"journal": EVIL},
        {"chart": EVIL},
        {"stages": [Row("boot", 1.0, "failed", EVIL)]},
        {"checks": [Row(EVIL, 1.0, "passed")]},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_a_machine_says_is_never_part_of_the_page(other: dict[str, object]) -> None:
    text = render(page(**other))
    assert "<script" not in text
    assert text.count("http://") + text.count("https://") == 0, "it needs nothing from elsewhere"


@pytest.mark.parametrize(
    ("states", "whole"),
    [
        (["passed", "passed"], "passed"),
        (["passed", "reused"], "reused"),
        (["passed", "skipped"], "skipped"),
        (["blocked", "failed", "passed"], "failed"),
    ],
)
def test_the_worst_counts(states: list[str], whole: str) -> None:
    assert page(stages=[Row("one", 0.0, state) for state in states]).state == whole  # type: ignore[arg-type]


def test_pages_are_made_of_reports_and_not_of_an_earlier_artifact(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/web.log").write_text("all \x1b[32mthat\x1b[39;49;00m was done")
    (tmp_path / "web").mkdir()
    MANIFEST.save(tmp_path / "web")
    reports = [
        pytest.TestReport(
            f"images/web/{nodeid}", ("", None, ""), {}, outcome, message, "call",
            duration=1.5, start=1e9, stop=1e9 + 1.5, user_properties=[("goldspawn_note", "a note")],
        )
        for nodeid, outcome, message in (
            ("image.toml::boot", "passed", None),
            ("test_web.py::test_page", "failed", "no page"),
            ("image.toml::snapshot", "skipped", ("", 0, "not exported")),
        )
    ]  # fmt: skip
    (part,) = pages.write(tmp_path, {"web": reports})  # type: ignore[dict-item]
    assert part == Part("web", "failed", "test_page: no page", "web.html", 4.5)
    path = tmp_path / "reports/web.html"
    text = path.read_text()
    assert "a note" in text and ">no page</pre>" in text and "not exported" in text and "all that was done" in text
    assert MANIFEST.version not in text
    assert list(path.parent.iterdir()) == [path]


def test_a_page_of_an_image_that_failed_shows_what_its_machine_left(tmp_path: Path) -> None:
    report = pytest.TestReport(
        "images/web/test_web.py::test_page", ("", None, ""), {}, "failed", "no page", "call",
        duration=1.5, start=1e9, stop=1e9 + 1.5,
    )  # fmt: skip
    log = tmp_path / "logs/web.log"
    log.parent.mkdir()
    log.write_text("all that was done")
    path = tmp_path / "reports/web.html"
    pages.write(tmp_path, {"web": [report]})
    assert "Packages (" not in path.read_text() and "journal" not in path.read_text(), "nothing was left"
    machine = {"schema_version": 1, "journal": "nginx: no page", "chart": "<svg/>",
               "boot": {"seconds": 4.5, "units": {"slow.service": 3.25}},
               "packages": [{"name": "curl", "version": "8", "architecture": "amd64"}]}  # fmt: skip
    remains.beside(log).write_text(json.dumps(machine))
    (part,) = pages.write(tmp_path, {"web": [report]})
    assert part.boot == 4.5
    text = path.read_text()
    for said in ("nginx: no page", "Boot: 4.5 seconds", "slow.service", "3.250", "data:image/svg+xml;base64,",
                 "Packages (1)", "curl</th><td>8</td>"):  # fmt: skip
        assert said in text, said


def test_changes_are_told_in_one_line() -> None:
    assert MANIFEST.changes is not None
    assert MANIFEST.changes.summary == (
        "since 20260101T000000Z: boots later; new: curl 8; gone: wget 1; updated: nginx 1.1 -> 1.2"
    )
    many = manifest.Changes("1", {f"p{number:02}": "1" for number in range(30)}, {}, {}, "")
    assert many.summary.startswith("since 1: new: p00 1, p01 1, ") and many.summary.endswith("p19 1 and 10 more")
    assert manifest.Changes("1", {}, {}, {}, "").summary == "since 1: the packages are the same"
