"""The page of a run: the outcome of all images at a glance, whatever their number, their names and their messages."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.artifact import manifest
from pipeline.errors import PlaceError
from pipeline.plugin import pages
from pipeline.plugin.run_page import RunPage
from pipeline.report import Page, Part, Row, Run, render
from tests.test_pages import EVIL, MANIFEST

PASSED = Part("web", "passed", "", "web.html", 62.0, "20260102T030405Z", 5 << 20, 3.5, MANIFEST.changes)
FAILED = Part("mail", "failed", "boot: the machine is degraded", "mail.html", 8.25)


def run(*parts: Part, where: str = "native (ZFS and systemd are here)", **other: Any) -> Run:
    return Run("2026-01-02 03:04:05", 187.0, where, parts, **other)


class Seen(HTMLParser):
    """What a page holds: its text, where it leads, and what each of its elements is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text.partition("</style>")[2])
        self.text = " ".join("".join(self.words).split())
        self.links = [each["href"] for tag, each in self.elements if tag == "a"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_outcome_is_told_first() -> None:
    text = render(
        run(PASSED, FAILED, dataclasses.replace(PASSED, image="db", state="reused", said="passed 1 hour ago"))
    )
    seen = Seen(text)
    assert "<title>3 images: 1 failed, 1 passed, 1 reused</title>" in text
    assert seen.text.startswith(
        "3 images: 1 failed, 1 passed, 1 reused 2026-01-02 03:04:05, 3:07 min, native (ZFS and systemd are here)"
    )


def test_each_image_has_a_row_those_first_that_need_somebody() -> None:
    seen = Seen(render(run(PASSED, FAILED, Part("late", "unfinished", "not begun"))))
    assert seen.links == ["mail.html", "web.html"], "what has no page leads nowhere"
    order = [seen.text.index(said) for said in (
        "mail failed 8.2 s boot: the machine is degraded", "late unfinished not begun",
        "web passed 62 s 20260102T030405Z 5.0 MiB 3.5 s boots later",
        "since 20260101T000000Z: 1 new, 1 gone, 1 updated", "new: curl 8; gone: wget 1; updated: nginx 1.1 -> 1.2",
    )]  # fmt: skip
    assert order == sorted(order)


@pytest.mark.parametrize("number", [0, 1, 40])
def test_any_number_of_images(number: int) -> None:
    long = "x" * 64
    seen = Seen(render(run(*(Part(f"{long[:-2]}{one:02}", "failed", EVIL, f"{one}.html") for one in range(number)))))
    assert seen.text.startswith({0: "No image was built", 1: "1 image: 1 failed", 40: "40 images: 40 failed"}[number])
    assert len(seen.links) == number
    assert "table" in [tag for tag, _ in seen.elements] or not number


def test_what_is_said_is_no_part_of_the_page_and_nothing_comes_from_elsewhere() -> None:
    evil = Part(EVIL, "failed", EVIL, f"{EVIL}.html", version=EVIL)
    text = render(run(evil, where=EVIL, stopped=EVIL, picture=EVIL, earlier={EVIL: (EVIL, EVIL)}))
    assert "<script" not in text
    assert text.count("http://") + text.count("https://") == 0
    assert [each["src"] for tag, each in Seen(text).elements if tag == "img"] == [
        "data:image/svg+xml;base64,PHNjcmlwdD5hbGVydCgneCcpPC9zY3JpcHQ+"
    ]


@pytest.mark.parametrize("text", [
    render(run(PASSED, FAILED, picture="<svg/>", earlier={"old": ("old.html", "2025")})),
    render(Page("web", "2026", [Row("boot", 2.0, "failed", "why\n" * 9)], [Row("test_it", 1.0, "passed")], "log",
                manifest=MANIFEST, boot=MANIFEST.boot, packages=MANIFEST.packages, chart="<svg/>")),
], ids=["run", "image"])  # fmt: skip
def test_pages_can_be_heard(text: str) -> None:
    """Headings step by step, headers that say of what they are, pictures in words, what scrolls without a mouse."""
    seen = Seen(text)
    tags = [tag for tag, _ in seen.elements]
    assert tags.count("h1") == 1 and next(tag for tag in tags if tag[1:].isdigit()) == "h1"
    assert "h3" not in tags
    assert all(each.get("scope") in ("col", "row") for tag, each in seen.elements if tag == "th")
    assert all(each.get("alt") for tag, each in seen.elements if tag == "img")
    assert all(each.get("tabindex") == "0" for _, each in seen.elements if each.get("role") == "region")
    assert 'lang="en"' in text and 'name="viewport"' in text and "prefers-color-scheme: dark" in text


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        ("the machine is degraded\nmailer.service failed", "the machine is degraded"),
        ("def test():\n>   assert a\nE   AssertionError: no\nE     and more\n\nt.py:1: Error", "AssertionError: no"),
        ("exit status 100: apt-get\n\n  E: Unable to locate", "exit status 100: apt-get"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_failure_in_one_line(failure: str, line: str) -> None:
    assert pages.brief(failure) == line


def test_what_is_said_of_an_image_is_short() -> None:
    rows = [
        Row("boot", 1.0, "failed", "long " * 200),
        Row("test_a", 0.0, "failed"),
        Row("snapshot", 0.0, "blocked", "x"),
    ]
    part = Part.of(Page("web", "2026", rows, [], ""), "web.html")
    assert part.state == "failed" and part.said.startswith("boot: long ") and part.said.endswith("… (and 1 more)")
    assert len(part.said) < 330
    ended = Part.of(Page("web", "2026", [Row("profile", 1.0, "passed")], [], "", finished=False), "web.html")
    assert (ended.state, ended.said) == ("unfinished", "ended after profile")


def report(check: str, outcome: Any = "passed", *, version: str = "") -> pytest.TestReport:
    return pytest.TestReport(
        f"images/web/image.toml::{check}", ("", None, ""), {}, outcome, None, "call", duration=1.5, start=1e9,
        stop=1e9 + 1.5, user_properties=[("goldspawn_version", version)] if version else [],
    )  # fmt: skip


def test_a_version_that_was_not_exported_is_told_without_an_earlier_one_s_size(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    MANIFEST.save(tmp_path / "web")
    (part,) = pages.write(tmp_path, {"web": [report("snapshot", version=MANIFEST.version)]})
    assert (part.version, part.size, part.changes) == (MANIFEST.version, 5 << 20, MANIFEST.changes)
    (part,) = pages.write(tmp_path, {"web": [report("snapshot", version="20270101T000000Z")]})
    assert (part.state, part.version, part.size) == ("passed", "20270101T000000Z", None)
    assert manifest.load(tmp_path / "web").version == MANIFEST.version


def test_what_was_not_begun_and_what_cannot_be_read_is_told_as_well(
    pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    page = RunPage(pytestconfig)
    assert page.write(tmp_path, {}, None) is None, "a session without images has no page"
    page.pytest_xdist_node_collection_finished([f"tests/images/{one}/image.toml::boot" for one in ("web1", "base1")])
    page.pytest_collectreport(
        pytest.CollectReport("tests/images/gentoo1/image.toml", "failed", "image.toml: bootstrap.suit: unknown key", [])
    )
    page.pytest_keyboard_interrupt(SimpleNamespace(value=KeyboardInterrupt()))  # type: ignore[arg-type]
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/old.html").write_text("of a run before")
    (tmp_path / "timeline.svg").write_text("<svg/>")
    index = page.write(tmp_path, {"web1": [report("boot")]}, tmp_path / "timeline.svg")
    assert index == tmp_path / "reports/index.html"
    assert sorted(path.name for path in index.parent.iterdir()) == ["index.html", "old.html", "web1.html"]
    seen = Seen(index.read_text())
    for said in ("3 images: 1 failed, 2 unfinished", "The run ended early: it was interrupted",
                 "gentoo1 failed image.toml: bootstrap.suit: unknown key", "base1 unfinished not begun",
                 "web1 unfinished 1.5 s ended after boot"):  # fmt: skip
        assert said in seen.text, said
    assert seen.links == ["web1.html", "old.html"]
    assert Seen((index.parent / "web1.html").read_text()).links == ["index.html"]


def test_an_image_called_index_has_a_page_of_its_own(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    index = RunPage(pytestconfig).write(tmp_path, {"index": [report("boot")]}, None)
    assert index is not None and Seen(index.read_text()).links == ["index_.html"]
    assert "ended early" not in index.read_text()
    assert Seen((index.parent / "index_.html").read_text()).links == ["index.html"]


def test_a_run_that_stops_at_its_first_failure_says_so(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    page = RunPage(pytestconfig)
    session = SimpleNamespace(shouldfail="stopping after 1 failures", shouldstop=False)
    page.pytest_sessionfinish(session)  # type: ignore[arg-type]
    index = page.write(tmp_path, {"web": [report("boot", "failed")]}, None)
    assert index is not None and "The run ended early: stopping after 1 failures" in index.read_text()


def test_where_it_cannot_be_written_is_said(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("")
    with pytest.raises(PlaceError, match=r"reports/web\.html: cannot be written"):
        RunPage(pytestconfig).write(tmp_path, {"web": [report("boot")]}, None)


def test_a_run_that_ends_at_a_mistake_has_a_page_that_tells_it(sessions: Any) -> None:
    sessions.image("fine")
    sessions.image("wrong", '[bootstrap]\nsuit = "trixie"')
    ended = sessions.run(env={"GOLDSPAWN_NO_REPORT": "no"}, limit=60)
    index = sessions.artifacts / "reports/index.html"
    assert f"report: {index}" in ended.output
    said = Seen(index.read_text()).text
    assert 'bootstrap.suit: unknown key; did you mean "suite"?' in said and "fine unfinished not begun" in said
    index.unlink()
    sessions.run("--collect-only", env={"GOLDSPAWN_NO_REPORT": "no"}, limit=60)
    assert not index.exists()
