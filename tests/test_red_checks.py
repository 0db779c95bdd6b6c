"""Every check can go red: for each stage and each machinectl check an image on which exactly that one fails.

All broken images are built in one session, two at a time, beside one that is whole: what fails for one image must not
reach another. `cycles` has nothing to go red with here: distributions of binary packages pass through it.
"""

from __future__ import annotations

import subprocess
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.place import Place
from tests.conftest import SMALL, Session, Sessions, code

STAGES = ("dataset", "bootstrap", "cycles", "profile", "boot", "machinectl_list", "machinectl_show",
          "machinectl_status", "machinectl_shell", "machinectl_login", "machinectl_reboot", "machinectl_poweroff",
          "snapshot")  # fmt: skip
FOUNDATIONS = STAGES[:5]


@dataclass(frozen=True)
class Broken:
    """An image that is wrong in one thing.

    `check` is the one that has to fail, `said` what its failure has to say, `blocks` whether it takes all later ones
    along. Where `reboot` is not true, machinectl_reboot is left out: a second boot would show nothing.
    """

    name: str
    check: str
    said: tuple[str, ...]
    definition: str = ""
    tests: str = ""
    root: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    blocks: bool = False
    reboot: bool = False


def _unit(name: str, line: str) -> dict[str, str]:
    text = f"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={line}\n[Install]\nWantedBy=multi-user.target\n"
    return {f"etc/systemd/system/{name}": text}


BROKEN = (
    # dataset: one that goldspawn did not create stands where its own would be (made by the fixture below).
    Broken("foreign", "dataset", ("/work/foreign exists, and goldspawn did not create it: it is left alone", "hint: ")),
    Broken(
        "mirrorless",
        "bootstrap",
        ("exit status ", "mmdebstrap ", 'bootstrap.mirror of image.toml: "http://127.0.0.1:9/debian" does not answer'),
        definition='mirror = "http://127.0.0.1:9/debian"',
    ),
    Broken(
        "no-package",
        "profile",
        ("profile.packages of image.toml names no-such-thing, which no repository of the image has",),
        definition='[profile]\npackages = ["no-such-thing"]',
    ),
    Broken(
        "bad-command",
        "profile",
        ("exit status 7: ", "  this is why", "whole log: ", "the command is in profile.run"),
        definition='[profile]\nrun = ["true", "echo this is why; exit 7"]',
    ),
    Broken(
        "no-unit",
        "profile",
        ("nowhere.service", "profile.enable of image.toml names a unit that the tree does not have"),
        definition='[profile]\nenable = ["nowhere.service"]',
    ),
    Broken(
        "sick",
        "boot",
        ("is degraded: sick.service failed", "sick.service failed; its journal", "this unit is sick", "allow_failed"),
        definition='[profile]\nenable = ["sick.service"]',
        root=_unit("sick.service", "/bin/sh -c 'echo this unit is sick; exit 3'"),
    ),
    Broken(
        "endless",
        "boot",
        ("the machine was not ready within ", "waiting for endless.service", "hint: boot.timeout in image.toml"),
        definition='[boot]\ntimeout = 3.0\n[profile]\nenable = ["endless.service"]',
        root=_unit("endless.service", "/bin/sleep 3600"),
    ),
    # machinectl list and show: systemd-machined knows nothing, or something else, of it (see REGISTRATION).
    Broken("unlisted", "machinectl_list", ("machinectl list does not have unlisted-gs",)),
    Broken("misshown", "machinectl_show", ("machinectl show misshown-gs", "Class=vm (expected container)")),
    Broken(
        "nameless",
        "machinectl_status",
        ("does not know the operating system", "hint: /etc/os-release of the image has to be there"),
        definition='[profile]\nenable = ["nameless.service"]',
        root=_unit("nameless.service", "/bin/rm /usr/lib/os-release"),
    ),
    Broken(
        "shell-less",
        "machinectl_shell",
        ("machinectl shell shell-less-gs", "no prompt came; the terminal had:"),
        root={"etc/pam.d/login": "account required pam_unix.so\nsession required pam_deny.so\n"},
    ),
    Broken(
        "login-less",
        "machinectl_login",
        ("machinectl login login-less-gs", "no login prompt came", "hint: is container-getty@.service there"),
        definition='[profile]\nmask = ["container-getty@.service"]',
    ),
    Broken(
        "once-only",
        "machinectl_reboot",
        ("the machine is degraded", "once.service failed; its journal ends:", "one boot is enough"),
        definition='[profile]\nenable = ["once.service"]',
        root=_unit("once.service", "/bin/sh -c 'mkdir /var/lib/once || { echo one boot is enough; exit 1; }'"),
        reboot=True,
    ),
    Broken(
        "no-return",
        "machinectl_reboot",
        ("machinectl reboot: the machine went, and did not come back", "hint: does its ctrl-alt-del.target lead"),
        tests="def test_it(machine): assert machine.run('true').rc == 0",
        links={"etc/systemd/system/ctrl-alt-del.target": "/usr/lib/systemd/system/poweroff.target"},
        reboot=True,
        blocks=True,
    ),
    Broken(
        "restless",
        "machinectl_poweroff",
        ("machinectl poweroff: the machine booted again instead", "hint: does its poweroff.target power off?"),
        links={"etc/systemd/system/poweroff.target": "/usr/lib/systemd/system/reboot.target"},
    ),
    Broken(
        "unfit",
        "test_it_answers",
        ("assert 3 == 0",),
        tests="""
            def test_it_answers(machine):
                assert machine.run("exit 3").rc == 0

            def test_it_is_what_it_is(machine):
                assert machine.run("echo %s", "a b").stdout == "a b\\n"
        """,
    ),
)  # fmt: skip

REGISTRATION = '''
"""Takes machines away from systemd-machined, or tells it something else of them, while one check looks."""

import subprocess

import pytest

FAULTS = {("unlisted", "machinectl_list"): "", ("misshown", "machinectl_show"): "vm"}


def machined(*words):
    subprocess.run(["busctl", "call", "org.freedesktop.machine1", "/org/freedesktop/machine1",
                    "org.freedesktop.machine1.Manager", *words], check=True, timeout=60)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    fault = FAULTS.get((item.path.parent.name, item.name))
    if fault is None:
        return (yield)
    machine = item.funcargs["machinectl"]
    leader = subprocess.run(["machinectl", "show", "--value", "--property=Leader", machine.name],
                            check=True, timeout=60, capture_output=True, text=True).stdout.strip()

    def register(kind):
        machined("RegisterMachine", "sayssus", machine.name, "0", "systemd-nspawn", kind, leader,
                 str(machine.directory))

    machined("UnregisterMachine", "s", machine.name)
    if fault:
        register(fault)
    try:
        return (yield)
    finally:
        if fault:
            machined("UnregisterMachine", "s", machine.name)
        register("container")
'''


@dataclass(frozen=True)
class Run:
    """The session with all broken images: its end, and of each image each check with its outcome and text."""

    sessions: Sessions
    session: Session
    found: dict[str, dict[str, tuple[str, str]]]

    def checks(self, image: str, outcome: str) -> list[str]:
        """The checks of an image that came out so."""
        return [check for check, (came, _) in self.found[image].items() if came == outcome]


def _read(junit: Path) -> dict[str, dict[str, tuple[str, str]]]:
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for case in ET.parse(junit).iter("testcase"):
        image = case.attrib["classname"].split(".")[0]
        wrong = next((one for one in case if one.tag in ("failure", "error", "skipped")), None)
        text = "" if wrong is None else f"{wrong.attrib.get('message', '')}\n{wrong.text or ''}"
        outcome = "passed" if wrong is None else wrong.tag
        if outcome == "skipped" and "blocked by" in text:
            outcome = "blocked"
        found.setdefault(image, {})[case.attrib["name"]] = (outcome, text)
    return found


@pytest.fixture(scope="module")
def red(bootstrapped: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """All broken images, one that skips a test, and one that is whole, built in one session."""
    folder = tmp_path_factory.mktemp("red")
    sessions = Sessions(folder)
    for broken in BROKEN:
        image = sessions.image(broken.name, SMALL + broken.definition, tests=broken.tests, root=broken.root)
        for path, target in broken.links.items():
            (image / "root" / path).parent.mkdir(parents=True, exist_ok=True)
            (image / "root" / path).symlink_to(target)
    sessions.image("skipping", tests="import pytest\n\ndef test_later(machine): pytest.skip('not today')")
    sessions.image("whole", tests="def test_it_runs(machine): assert machine.service('dbus').is_running")
    (folder / "registration.py").write_text(REGISTRATION)
    foreign = f"{bootstrapped.layout.work}/foreign"
    subprocess.run(["zfs", "create", "-o", "mountpoint=legacy", foreign], check=True, timeout=60)
    try:
        left_out = ["skipping", *(one.name for one in BROKEN if not one.reboot)]
        session = sessions.run(
            "-n2",
            f"--junitxml={folder}/junit.xml",
            "-pregistration",
            *(f"--deselect={name}/image.toml::machinectl_reboot" for name in left_out),
            env={"PYTHONPATH": f"{code()['PYTHONPATH']}:{folder}"},
            limit=1500,
        )
        print(session.output)
        yield Run(sessions, session, _read(folder / "junit.xml"))
    finally:
        subprocess.run(["zfs", "destroy", foreign], check=True, timeout=60)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_exactly_that_check_fails_and_says_what_helps(broken: Broken, red: Run) -> None:
    assert red.checks(broken.name, "failure") == [broken.check]
    assert red.checks(broken.name, "error") == []
    text = red.found[broken.name][broken.check][1]
    for part in broken.said:
        assert part in text
    if broken.check not in ("test_it_answers",):
        assert "Traceback" not in text
        assert "site-packages" not in text


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_what_cannot_be_checked_any_more_is_blocked_by_it_and_all_else_passes(broken: Broken, red: Run) -> None:
    checks = list(red.found[broken.name])
    after = checks[checks.index(broken.check) + 1 :]
    if broken.check in FOUNDATIONS or broken.blocks:
        assert red.checks(broken.name, "blocked") == after
        text = red.found[broken.name][after[0]][1]
        assert f"blocked by {broken.check}, which failed" in text
    else:
        assert red.checks(broken.name, "blocked") == []
        assert red.checks(broken.name, "skipped") == ["snapshot"]
        assert f"not exported: {broken.check} failed" in red.found[broken.name]["snapshot"][1]
    others = {"blocked", "skipped", "failure"}
    assert red.checks(broken.name, "passed") == [one for one in checks if red.found[broken.name][one][0] not in others]
    assert not (red.sessions.artifacts / broken.name).exists()


def test_a_skipped_test_is_no_pass(red: Run) -> None:
    assert red.checks("skipping", "failure") == []
    assert red.checks("skipping", "skipped") == ["test_later", "snapshot"]
    assert "not exported: test_later was skipped" in red.found["skipping"]["snapshot"][1]
    assert not (red.sessions.artifacts / "skipping").exists()


def test_an_image_beside_broken_ones_passes_and_is_exported(red: Run) -> None:
    assert set(red.found["whole"]) == {*STAGES, "test_it_runs"}
    assert red.checks("whole", "passed") == list(red.found["whole"])
    assert (red.sessions.artifacts / "whole" / "manifest.json").is_file()


def test_the_session_fails_and_tells_of_each_image(red: Run) -> None:
    assert red.session.status == 1
    for broken in BROKEN:
        if broken.check in FOUNDATIONS:
            assert f"not run, blocked by {broken.check}, which failed" in red.session.output
    assert "INTERNALERROR" not in red.session.output


def test_a_deselected_check_is_no_pass(red: Run) -> None:
    """Asked for the snapshot alone, of an image that is unchanged: nothing was verified in this run."""
    before = sorted((red.sessions.artifacts / "whole").iterdir())
    ended = red.sessions.run("--image=whole", "-k", "snapshot")
    assert ended.status == 0
    assert ended.outcome("snapshot") == "SKIPPED", ended.output
    assert "not exported: dataset, bootstrap, cycles and 10 more were deselected" in ended.output
    assert sorted((red.sessions.artifacts / "whole").iterdir()) == before


def test_artifacts_that_cannot_be_written_are_named_before_anything_is_done(red: Run, tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], check=True)
    try:
        ended = red.sessions.run("--image=whole", f"--artifacts={folder}")
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert ended.status == 1
    assert ended.outcomes("FAILED") == ["dataset"], ended.output
    assert ended.outcomes("BLOCKED") == [*STAGES[1:-2], "test_it_runs", *STAGES[-2:]]
    assert f"artifacts = {folder}: cannot be written (Read-only file system)" in ended.output
    assert "hint: name another with --artifacts" in ended.output


def test_no_room_for_artifacts_fails_the_snapshot_only(red: Run, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20M", "tmpfs", str(folder)], check=True)
    try:
        ended = red.sessions.run("--image=whole", f"--artifacts={folder}")
        left = sorted(path.name for path in folder.iterdir())
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert ended.status == 1
    assert ended.outcomes("FAILED") == ["snapshot"], ended.output
    assert {"boot", "test_it_runs", "machinectl_poweroff"} <= set(ended.outcomes("REUSED"))
    assert f"no room in {folder}: " in ended.output
    assert "are needed" in ended.output
    assert "hint: make room and run again" in ended.output
    assert left == ["logs", "timeline.svg"], "nothing half-written is left"


def test_an_interpreter_of_names_is_not_fooled(tmp_path: Path) -> None:
    """The reader of junit.xml above, which all of these tests stand on, tells blocked from skipped."""
    name = uuid.uuid4().hex
    (tmp_path / "junit.xml").write_text(
        f'<testsuite><testcase classname="{name}.image.toml" name="boot"><failure message="x">y</failure></testcase>'
        f'<testcase classname="{name}.image.toml" name="snapshot"><skipped message="blocked by boot, which failed"/>'
        f'</testcase><testcase classname="{name}.test_{name}" name="test_a"><skipped message="not today"/></testcase>'
        "</testsuite>"
    )
    assert {check: came for check, (came, _) in _read(tmp_path / "junit.xml")[name].items()} == {
        "boot": "failure", "snapshot": "blocked", "test_a": "skipped",
    }  # fmt: skip
