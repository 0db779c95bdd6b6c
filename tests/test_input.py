"""What a user can get wrong before anything is built: each mistake is one clear line, and nothing is started for it.

None of these needs ZFS or systemd. Each session has a cache of its own, which would hold the appliance's log if one had
been started.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.place import choose

STAGES = [
    "dataset", "bootstrap", "cycles", "profile", "boot", "machinectl_list", "machinectl_show", "machinectl_status",
    "machinectl_shell", "machinectl_login", "machinectl_reboot", "machinectl_poweroff", "snapshot",
]  # fmt: skip

Run = Callable[..., Any]


@pytest.fixture
def run(sessions: Any, tmp_path: Path) -> Run:
    """Runs a session that must end without having started an appliance or written an artifact."""

    def run_session(*args: str, env: dict[str, str] | None = None) -> Any:
        cache = tmp_path / "cache"
        ended = sessions.run(*args, env={"GOLDSPAWN_CACHE": str(cache), **(env or {})}, limit=60)
        assert not (cache / "appliance.log").exists(), "the appliance was started for what is wrong before it"
        artifacts = sessions.artifacts
        assert not artifacts.exists() or not [path for path in artifacts.rglob("*") if path.is_file()]
        assert "Traceback" not in ended.output, ended.output
        return ended

    return run_session


MISTAKES = {
    "unknown key": (
        '[bootstrap]\nsuit = "trixie"',
        '{file}: bootstrap.suit: unknown key; did you mean "suite"?',
    ),
    "key of another section": (
        'packages = ["nginx"]',
        '{file}: packages: unknown key; did you mean "profile.packages"?',
    ),
    "wrong type": (
        '[profile]\npackages = "nginx"',
        '{file}: profile.packages: expected a list, got "nginx"',
    ),
    "wrong value": (
        '[artifact]\ncompression = "rar"',
        '{file}: artifact.compression: expected "zstd", "zstd-1" to "zstd-19"',
    ),
    "unknown method": (
        '[bootstrap]\nmethod = "debbootstrap"',
        '{file}: bootstrap.method: unknown method "debbootstrap"; did you mean "debootstrap"?',
    ),
    "missing file": (
        '[[bootstrap.repositories]]\nuri = "https://example.org/debian"\nsuite = "x"\nkey = "keys/lost.asc"',
        "{file}: bootstrap.repositories[0].key: there is no file {folder}/keys/lost.asc",
    ),
    "bad TOML": (
        "[profile\npackages = []",
        "{file}: no valid TOML: ",
    ),
}  # fmt: skip


def test_a_mistake_in_image_toml_is_named_with_file_and_key(sessions: Any, run: Run) -> None:
    folders = {}
    for number, (definition, _) in enumerate(MISTAKES.values()):
        folders[number] = sessions.image(f"m{number}", definition, tests="def test_it(machine): pass")
    ended = run()
    assert ended.status == 2
    for (number, folder), (mistake, (_, expected)) in zip(folders.items(), MISTAKES.items(), strict=True):
        line = expected.format(file=f"m{number}/image.toml", folder=folder)
        assert ended.output.count(line) == 1, f"{mistake}: {ended.output}"
    assert ended.output.count("ERROR collecting") == len(MISTAKES), "a mistake is told once, not for each test file"


def test_all_mistakes_of_a_file_are_told_at_once(sessions: Any, run: Run) -> None:
    sessions.image("small1", 'descripton = "x"\n[boot]\ntimeout = "soon"\nprivate_users = 1')
    ended = run()
    assert ended.status == 2
    for key in ("descripton: unknown key", "boot.timeout: expected a number", "boot.private_users: expected true"):
        assert f"small1/image.toml: {key}" in ended.output


def test_one_bad_image_is_told_while_another_is_selected(sessions: Any, run: Run) -> None:
    """A mistake elsewhere must not be in the way of the image that is wanted."""
    sessions.image("small1")
    sessions.image("broken1", "[nonsense")
    ended = run("--collect-only", "--image=small1")
    assert ended.status == 0, ended.output
    assert "goldspawn: images: small1" in ended.output


def test_a_name_that_no_machine_can_have_is_refused(sessions: Any, run: Run) -> None:
    names = ["a b", "x" * 65, "Upper", "under_score", "-dash", "dash-", "dot.ted", "\u00fcml\u00e4ut"]
    for name in names:
        sessions.image(name)
    ended = run()
    rule = "expected 1 to 64 lower case letters, digits and hyphens, no hyphen first or last"
    assert ended.status == 2
    for name in names:
        long = " (65 characters)" if len(name) == 65 else ""
        assert f'"{name}"{long} cannot be the name of an image; {rule}' in ended.output


@pytest.mark.parametrize("name", ["../x", "nowhere", "small", ""])
def test_image_that_does_not_exist_is_named_with_those_that_do(name: str, sessions: Any, run: Run) -> None:
    sessions.image("small1")
    sessions.image("small2")
    ended = run(f"--image={name}")
    assert ended.status == 4
    assert f"--image {name}: there is no such image; the images here are: small1, small2" in ended.output


def test_images_folder_that_does_not_exist_is_named(sessions: Any, run: Run, tmp_path: Path) -> None:
    ended = run(f"--images={tmp_path}/gone", f"--images={tmp_path}/lost")
    assert ended.status == 4
    for folder in ("gone", "lost"):
        assert f"--images {tmp_path}/{folder}: there is no such directory" in ended.output


def test_two_images_of_one_name_are_both_named(sessions: Any, run: Run, tmp_path: Path) -> None:
    one = sessions.image("small1")
    other = tmp_path / "other" / "small1"
    other.mkdir(parents=True)
    (other / "image.toml").touch()
    for chosen in ([], ["--image=small1"]):
        ended = run(f"--images={tmp_path}/other", *chosen)
        assert ended.status == 4
        assert f'two images are called "small1": {one}/image.toml and {other}/image.toml' in ended.output


def test_with_image_only_what_is_its_own_is_collected(sessions: Any, run: Run) -> None:
    """Not even imported: `--image web1` is for who wants that machine, and soon."""
    sessions.image("small1")
    (sessions.images / "other").mkdir()
    for place in ("test_wrong.py", "other/test_wrong.py", "other/conftest.py"):
        (sessions.images / place).write_text("raise AssertionError('imported')\n")
    assert run("--collect-only").status != 0
    folder = str(sessions.images)
    for more in ([], [f"{folder}/small1/image.toml"], [f"{folder}/small1/image.toml::boot"]):
        ended = run("--collect-only", "-qq", "--image=small1", *more)
        assert ended.status == 0, ended.output
        assert [line for line in ended.output.splitlines() if "::" in line] == [
            f"small1/image.toml::{check}" for check in STAGES
        ]


def test_image_is_found_by_a_path_that_leads_upwards() -> None:
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--image=base1", "../tests/images"]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("GOLDSPAWN_", "PYTEST_"))}
    docs = Path(__file__).parents[1] / "docs"
    done = subprocess.run(argv, cwd=docs, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "base1/image.toml::boot" in done.stdout


def test_mistakes_in_pyproject_are_named_with_file_and_key_all_at_once(sessions: Any, run: Run) -> None:
    sessions.image("small1")
    file = sessions.images / "pyproject.toml"
    file.write_text(
        '[tool.goldspawn]\ndatset = "tank/x"\ndataset = 7\nmax-age = "a day"\nno-export = 1\nimages = "here"\n'
        'image = ["small1", 2]\n'
    )
    ended = run("--collect-only")
    assert ended.status == 4
    for problem in (
        'datset: unknown key; did you mean "dataset"?',
        "dataset: expected a string, got 7",
        "max-age: expected a number, got 'a day'",
        "no-export: expected true or false, got 1",
        "images: expected a list of strings, got 'here'",
        "image: expected a list of strings, got ['small1', 2]",
    ):
        assert f"{file}: tool.goldspawn.{problem}" in ended.output


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("max-age = -1", "max-age = -1: expected hours, 0 or more"),
        ("max-age = nan", "max-age = nan: expected hours, 0 or more"),
        ('where = "nonsense"', 'where = "nonsense": expected "auto", "native" or "appliance"'),
        ('deltas = ["last"]', 'deltas = "last": expected "previous" or "base"'),
        ("where", "pyproject.toml: "),
    ],
)
def test_a_value_in_pyproject_that_cannot_be_is_refused(line: str, expected: str, sessions: Any, run: Run) -> None:
    sessions.image("small1")
    (sessions.images / "pyproject.toml").write_text(f"[tool.goldspawn]\n{line}\n")
    ended = run("--collect-only")
    assert ended.status == 4
    assert expected in ended.output


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("GOLDSPAWN_MAX_AGE", "soon", "GOLDSPAWN_MAX_AGE = soon: expected a number"),
        ("GOLDSPAWN_WHERE", "there", 'where = "there": expected "auto", "native" or "appliance"'),
    ],
)
def test_a_mistake_in_the_environment_is_named(
    variable: str, value: str, expected: str, sessions: Any, run: Run
) -> None:
    sessions.image("small1")
    ended = run("--collect-only", env={variable: value})
    assert ended.status == 4
    assert expected in ended.output


def test_a_place_that_is_none_is_refused(sessions: Any, run: Run) -> None:
    sessions.image("small1")
    ended = run("--where=nonsense")
    assert ended.status == 4
    assert 'where = "nonsense": expected "auto", "native" or "appliance"' in ended.output


@pytest.mark.skipif(choose("auto").where == "native", reason="this host can build natively")
def test_native_where_it_cannot_be_says_all_that_it_lacks(sessions: Any, run: Run) -> None:
    sessions.image("small1")
    ended = run("--where=native")
    lacking = choose("auto").why
    assert ended.status == 4
    assert f"cannot build natively here: {lacking}" in ended.output
    assert "hint: --where=appliance needs none of it" in ended.output


def test_missing_tools_are_named_all_at_once_with_their_packages(sessions: Any, tmp_path: Path) -> None:
    sessions.image("small1", tests="def test_it(machine): pass")
    (tmp_path / "bin").mkdir()
    cache = tmp_path / "cache"
    ended = sessions.run(env={"PATH": str(tmp_path / "bin"), "GOLDSPAWN_CACHE": str(cache)}, limit=60)
    assert ended.status == 1
    assert ended.outcomes("FAILED") == ["dataset"], ended.output
    assert len(ended.outcomes("BLOCKED")) == len(STAGES)
    here = choose("auto").where
    tools = {
        "native": {"systemd-nspawn": "systemd-container", "machinectl": "systemd-container", "tar": "tar"},
        "appliance": {"qemu-system-x86_64": "qemu-system-x86", "mmdebstrap": "mmdebstrap", "ssh": "openssh-client"},
    }[here]
    lines = [line for line in ended.output.splitlines() if "missing here" in line]
    assert lines
    for tool, package in tools.items():
        assert f"{tool} (package {package})" in lines[0]
    assert "hint: apt install " in ended.output
    assert not list(cache.glob("*/vmlinuz"))
    assert not list(cache.glob("pool.img"))


def test_k_takes_all_that_match_and_the_header_names_them(sessions: Any, run: Run) -> None:
    for name in ("small1", "small10", "other2"):
        sessions.image(name)
    ended = run("--collect-only", "-k", "small1")
    assert ended.status == 0
    assert "goldspawn: images: small1, small10\n" in ended.output
    assert "goldspawn: where: " in ended.output


def test_image_takes_exactly_one(sessions: Any, run: Run) -> None:
    for name in ("small1", "small10"):
        sessions.image(name)
    ended = run("--collect-only", "--image=small1")
    assert ended.status == 0
    assert "goldspawn: images: small1\n" in ended.output
    assert "small10" not in ended.output.split("collected", 1)[1]


def test_collect_only_reads_like_the_pipeline(sessions: Any, run: Run) -> None:
    sessions.image("small1", tests="def test_one(machine): pass\ndef test_two(machine): pass")
    sessions.image("small2")
    started = time.monotonic()
    ended = run("--collect-only", "-qq")
    print(f"pytest --collect-only took {time.monotonic() - started:.2f} s")
    assert ended.status == 0
    own = ["small1/test_small1.py::test_one", "small1/test_small1.py::test_two"]
    first, last = STAGES[:-2], STAGES[-2:]
    assert [line for line in ended.output.splitlines() if "::" in line] == [
        *(f"small1/image.toml::{check}" for check in first),
        *own,
        *(f"small1/image.toml::{check}" for check in last),
        *(f"small2/image.toml::{check}" for check in STAGES),
    ]


def test_a_late_stage_brings_the_earlier_ones_along(sessions: Any, run: Run) -> None:
    """Selecting a check selects its fixtures, which are the stages before it."""
    sessions.image("small1")
    ended = run("--setup-plan", "-k", "machinectl_list", "--collect-only", "-qq")
    assert [line for line in ended.output.splitlines() if "::" in line] == ["small1/image.toml::machinectl_list"]


def test_a_test_that_needs_no_place_starts_none(sessions: Any, run: Run, tmp_path: Path) -> None:
    (sessions.images / "test_plain.py").write_text("def test_plain(): pass\n")
    ended = run(str(sessions.images / "test_plain.py"))
    assert ended.status == 0, ended.output
    assert "1 passed" in ended.output
    assert "goldspawn: where" not in ended.output
