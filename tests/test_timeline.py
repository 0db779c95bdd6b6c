"""The picture of a run: whole SVG, every image and stage in it, whatever their names and times are."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pipeline.errors import PlaceError
from pipeline.plugin.timeline import Clocks, seconds, spans, write
from pipeline.timeline import Span, draw

NAME = "{http://www.w3.org/2000/svg}"
HOUR = 3600.0


def report(
    check: str, start: float, seconds: float, *, outcome: str = "passed", worker: str = "gw0", note: str = ""
) -> pytest.TestReport:
    """A report as it arrives from a worker."""
    made = pytest.TestReport(
        nodeid=check if "::" in check else f"images/web1/image.toml::{check}", location=("", 0, ""), keywords={},
        outcome=outcome, longrepr=None, when="call", start=start, stop=start + seconds, duration=seconds,
        user_properties=[("goldspawn_image", "web1"), *([("goldspawn_note", note)] if note else [])],
    )  # fmt: skip
    made.worker_id = worker  # type: ignore[attr-defined]
    return made


def texts(svg: str) -> list[str]:
    """All texts of a picture, each with its parts joined."""
    return ["".join(each.itertext()) for each in ET.fromstring(svg).iter(f"{NAME}text")]


def test_every_image_and_stage_is_named_with_its_seconds() -> None:
    svg = draw(
        [
            Span("web1", "bootstrap", "gw0", 100, 119, "ran"),
            Span("web1", "profile", "gw0", 119, 119.2, "reused"),
            Span("db1", "profile", "gw1", 100.5, 131.5, "failed"),
        ],
        "a <run>",
    )
    said = texts(svg)
    assert "a <run>" in said
    assert {"web1", "db1", "gw0", "gw1"} <= set(said)
    assert "bootstrap 19 s· profile reused" in said
    assert "profile failed 31 s" in said
    bars = [bar for bar in ET.fromstring(svg).iter(f"{NAME}rect") if bar.find(f"{NAME}title") is not None]
    assert [bar.get("class") for bar in bars] == ["ran", "reused", "failed"]


def test_nothing_leaves_the_picture() -> None:
    spans_ = [
        Span(f"image-with-a-long-name-{n}", "boot", f"host{n % 2}", n * 900, n * 900 + 1, "ran") for n in range(9)
    ]
    root = ET.fromstring(draw(spans_, "long"))
    width, height = (float(part) for part in (root.get("viewBox") or "").split()[2:])
    for bar in root.iter(f"{NAME}rect"):
        assert float(bar.get("x", "0")) + float(bar.get("width", "0")) <= width
        assert float(bar.get("y", "0")) + float(bar.get("height", "0")) <= height


def test_many_words_are_made_to_fit() -> None:
    stages = ("dataset", "bootstrap", "cycles", "profile", "boot", "machinectl", "acceptance", "poweroff", "snapshot")
    long = [Span("web1", stage, "gw0", n * 10, n * 10 + 9.9, "reused") for n, stage in enumerate(stages)]
    for spans_, tight in ((long, 1), (long[:4], 0)):
        found = [text for text in ET.fromstring(draw(spans_, "x")).iter(f"{NAME}text") if text.get("textLength")]
        assert len(found) == tight


def test_checks_become_stages_and_what_was_blocked_is_left_out() -> None:
    blocked = report("snapshot", 9, 0, outcome="skipped")
    blocked.blocked = "blocked by boot"  # type: ignore[attr-defined]
    reports = [
        report("profile", 1, 2, note="reused tank/golden/web1@1"),
        report("machinectl_list", 3, 1),
        report("machinectl_show", 4, 1, outcome="failed"),
        report("images/web1/test_web.py::test_it", 5, 1),
        report("machinectl_poweroff", 6, 1),
        blocked,
    ]
    found = {span.stage: (span.state, span.seconds) for span in spans({"web1": reports}, Clocks())}
    assert found == {
        "profile": ("reused", 2),
        "machinectl": ("failed", 2),
        "acceptance": ("ran", 1),
        "poweroff": ("ran", 1),
    }


def test_what_was_reused_is_drawn_so() -> None:
    again = [report("boot", 5, 0), report("machinectl_list", 6, 0), report("machinectl_show", 7, 0)]
    for one in again:
        one.reused = "passed 2 days ago"  # type: ignore[attr-defined]
    reports = [
        report("bootstrap", 1, 2, note="from base1, reused (from 2 days ago)"),
        report("cycles", 3, 1, note="from base1, made; root/etc/motd changed"),
        report("profile", 4, 1, note="2 packages reused (from 2 days ago), sealed"),
        *again,
    ]
    found = {span.stage: span.state for span in spans({"web1": reports}, Clocks())}
    assert found == {
        "bootstrap": "reused", "cycles": "ran", "profile": "ran", "boot": "reused", "machinectl": "reused",
    }  # fmt: skip


def test_a_check_that_was_lost_with_its_worker_lasted_until_then() -> None:
    lost, unknown = report("profile", 9, 0, outcome="failed"), report("boot", 0, 0, outcome="failed")
    found = spans({"web1": [report("dataset", 1, 2), lost, unknown]}, Clocks())
    assert [(span.stage, span.state, span.start, span.stop) for span in found] == [
        ("dataset", "ran", 1, 3), ("profile", "failed", 3, 9),
    ]  # fmt: skip


def test_a_host_whose_clock_is_wrong_is_drawn_where_it_worked() -> None:
    clocks = Clocks()
    right, wrong = report("boot", time.time() - 5, 5), report("boot", time.time() - HOUR - 5, 5, worker="build1")
    for each in (right, wrong):
        clocks.heard(each)
    assert clocks.here(right) == (right.start, right.stop)
    assert abs(clocks.here(wrong)[0] - right.start) < 1.0


def test_a_clock_that_jumps_moves_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's is set a month ahead while it boots, and set back while nothing is reported."""
    clocks = Clocks()
    reports = [report("profile", 1, 2), report("boot", 3, 4), report("snapshot", 8, 1)]
    reports[1].stop += 720 * HOUR
    for each, arrives in zip(reports, (3, 7, 9), strict=True):
        monkeypatch.setattr(time, "time", lambda moment=arrives: moment)
        clocks.heard(each)
    drawn = [(span.stage, span.start, span.stop) for span in spans({"web1": reports}, clocks)]
    assert drawn == [("profile", 1, 3), ("boot", 3, 7), ("snapshot", 8, 9)]


def test_the_picture_replaces_the_one_of_the_run_before(tmp_path: Path) -> None:
    for stage in ("boot", "profile"):
        assert write(tmp_path / "artifacts", {"web1": [report(stage, 1, 2)]}, Clocks()) is not None
    assert sorted(path.name for path in (tmp_path / "artifacts").rglob("*.*")) == ["seconds.json", "timeline.svg"]
    assert "profile 2 s" in texts((tmp_path / "artifacts/timeline.svg").read_text())


def test_how_long_an_image_took_is_known_to_the_next_run(tmp_path: Path) -> None:
    write(tmp_path, {"web1": [report("boot", 1, 2), report("profile", 3, 4)], "db1": [report("boot", 1, 1)]}, Clocks())
    write(tmp_path, {"db1": [report("boot", 1, 9)]}, Clocks())
    assert seconds(tmp_path) == {"web1": 6, "db1": 9}
    (tmp_path / "logs/seconds.json").write_text("no json")
    assert seconds(tmp_path) == {}


def test_a_run_without_images_draws_nothing(tmp_path: Path) -> None:
    assert write(tmp_path / "artifacts", {}, Clocks()) is None
    assert not (tmp_path / "artifacts").exists()


def test_where_it_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("")
    with pytest.raises(PlaceError, match=r"timeline\.svg: cannot be written"):
        write(tmp_path / "artifacts", {"web1": [report("boot", 1, 2)]}, Clocks())
