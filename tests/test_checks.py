"""Ready-made checks: an image on which all of them pass, and one on which each fails and tells what to do."""

from __future__ import annotations

import os
import re
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline import checks
from pipeline.checks import Subject
from pipeline.command import SILENT
from pipeline.errors import CheckFailed, InputError
from pipeline.image import Checks, load
from pipeline.machine.settings import Settings
from pipeline.machine.unit import State
from pipeline.place import Place
from tests.conftest import SMALL, Sessions

# What keeps the machine from being left alone costs minutes here, and is tested elsewhere.
SLOW = ("shell", "login", "reboot", "status", "show")

GREEN = (
    SMALL
    + """
[checks]
journal = true
journal_allow = ["^systemd"]
boot_seconds = 60.0
poweroff_seconds = 60.0
listen = []
setuid = ["/usr/bin/chage", "/usr/bin/chfn", "/usr/bin/chsh", "/usr/bin/expiry", "/usr/bin/gpasswd", "/usr/bin/mount",
          "/usr/bin/newgrp", "/usr/bin/passwd", "/usr/bin/su", "/usr/bin/umount", "/usr/sbin/unix_chkpwd",
          "/usr/lib/dbus-1.0/dbus-daemon-launch-helper"]
world_writable = []
passwords = true
identity = true
size_max = "2G"
updates = true
unclean = true
volatile = true
read_only = true

[checks.exposure]
"dbus.service" = 10.0
"*" = 10.0

[nspawn.exec]
timezone = "copy"

[nspawn.files]
temporary_file_system = ["/var/lib/systemd:mode=755"]
"""
)

RED = (
    SMALL
    + """
[profile]
enable = ["ill.service", "echo.socket"]
run = [
    "chmod u+s /usr/bin/env", "touch /srv/open", "chmod 666 /srv/open", "usermod --password '' games",
    "echo LANG=xx_XX > /etc/locale.conf", "ln -sf /usr/share/zoneinfo/Asia/Tokyo /etc/localtime",
    "sed -i '/^Package: bash$/,/^$/s/^Version: .*/Version: 1.0-1/' /var/lib/dpkg/status",
]

[checks]
journal = true
boot_seconds = 0.001
poweroff_seconds = 0.001
listen = ["tcp/443"]
setuid = []
world_writable = []
passwords = true
identity = true
size_max = "1M"
updates = true
unclean = true
volatile = true
read_only = true

[checks.exposure]
"*" = 0.0
"""
)

ILL = """
[Service]
Type=oneshot
ExecStart=/bin/sh -c "echo '<3>it hurts'"
ExecStart=/bin/sh -c "! grep -q '^overlay / ' /proc/mounts"
ExecStart=/bin/sh -c "test ! -e /var/lib/ran"
ExecStart=/usr/bin/touch /var/lib/ran
[Install]
WantedBy=multi-user.target
"""

TELLS = {
    "journal": "it hurts",
    "boot_seconds": "checks.boot_seconds of image.toml is the limit",
    "poweroff_seconds": "it powered off in",
    "listen": "tcp/7 is open (systemd); tcp/443 is not open",
    "setuid": "setuid or setgid, and not named: /usr/bin/",
    "world_writable": "everybody can write /srv/open",
    "passwords": "without a password: games",
    "identity": "time zone is Asia/Tokyo, and the profile says Etc/UTC locale is xx_XX, and the profile says C.UTF-8",
    "size_max": "and 1 MB are allowed",
    "updates": "bash 1.0-1 -> ",
    "exposure": "dbus.service: exposure",
    "unclean": "after it was killed the machine is degraded",
    "volatile": "with a root that forgets the machine is degraded",
    "read_only": "with a read-only root the machine is degraded",
}
KEYS = list(TELLS)


def test_each_check_has_an_image_on_which_it_fails() -> None:
    assert set(KEYS) == set(Checks.__dataclass_fields__) - {"journal_allow"}  # type: ignore[attr-defined]


def test_checks_are_made_where_they_are_named(sessions: Sessions) -> None:
    sessions.image("some", SMALL + "[checks]\nlisten = []\nunclean = true\njournal = false\n")
    ended = sessions.run("--collect-only", "--image=some")
    found = re.findall(r"<Function check_(\w+)>", ended.output)
    assert found == ["listen", "unclean"], ended.output


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('listen = ["80"]', 'checks.listen[0]: expected a port such as "tcp/80"'),
        ('journal_allow = ["("]', "checks.journal_allow[0]: expected a regular expression"),
        ('exposure = {"nginx" = 3.0}', 'expected "*", or the name of a unit with its type'),
        ('exposure = {"nginx.service" = 11}', "expected at most 10"),
        ("jornal = true", 'checks.jornal: unknown key; did you mean "journal"?'),
    ],
)
def test_mistakes_are_told(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "image.toml").write_text(f"[checks]\n{text}\n")
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert problem in str(caught.value)


def test_a_root_that_forgets_has_no_users_of_the_host() -> None:
    """systemd-nspawn refuses the two together: BindUser= is for machines with users of their own."""
    rows = (("PrivateUsersOwnership", "auto"), ("BindUser", "guest"), ("Bind", "/srv"))
    tried: list[Settings] = []

    def another(settings: Settings) -> AbstractContextManager[Any]:
        tried.append(settings)
        return nullcontext(SimpleNamespace(start=list, judge=list))

    settings = Settings({"Exec": (("PrivateUsers", "pick"),), "Files": rows})
    checks.another.volatile(cast(Subject, SimpleNamespace(machine=SimpleNamespace(settings=settings), another=another)))
    assert tried[0].sections == {
        "Exec": (("PrivateUsers", "no"),),
        "Files": (("Bind", "/srv"), ("PrivateUsersOwnership", "off"), ("Volatile", "overlay")),
    }


@pytest.mark.parametrize(("wanted", "passes"), [(600.0, True), (100.0, False)])
def test_the_limit_of_a_poweroff_is_the_images(
    wanted: float, passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that powers off in 0.5 s, on a host on which that is 250 s."""
    (tmp_path / "machinectl").write_text('#!/bin/sh\n[ "$1" = poweroff ]\n')
    (tmp_path / "machinectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    started = time.monotonic()
    machine = SimpleNamespace(
        name="some", log=SILENT, slowness=0.002, settings=None, start=list, console=lambda lines: [],
        state=lambda: State("active" if time.monotonic() < started + 0.5 else "inactive", 0),
    )  # fmt: skip
    image = SimpleNamespace(checks=Checks(poweroff_seconds=wanted))
    subject = Subject(
        cast(Any, machine), cast(Any, image), 0, lambda settings: nullcontext(cast(Any, machine)), cast(Any, None)
    )
    with nullcontext() if passes else pytest.raises(CheckFailed, match=r"(powered off in 0\.|still runs after 0 s)"):
        checks.another.poweroff_seconds(subject)


def test_all_pass_on_a_good_machine(bootstrapped: Place, sessions: Sessions) -> None:
    sessions.image("good", GREEN)
    slow = [f"--deselect=good/image.toml::machinectl_{one}" for one in SLOW]
    # It asks for pending updates: one that came while these tests ran is not for its bootstrap to miss.
    ended = sessions.run("--image=good", *slow, env={"GOLDSPAWN_MAX_AGE": "0"}, limit=1500)
    assert {key: ended.outcome(f"check_{key}") for key in KEYS} == dict.fromkeys(KEYS, "PASSED"), ended.output
    assert ended.status == 0


def test_each_fails_on_a_bad_machine_and_tells_what_to_do(bootstrapped: Place, sessions: Sessions) -> None:
    sessions.image("bad", RED, root={"etc/systemd/system/ill.service": ILL,
        "etc/systemd/system/echo.socket": "[Socket]\nListenStream=7\nAccept=yes\n[Install]\nWantedBy=sockets.target\n",
        "etc/systemd/system/echo@.service": "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n"})  # fmt: skip
    slow = [f"--deselect=bad/image.toml::machinectl_{one}" for one in SLOW]
    ended = sessions.run("--image=bad", *slow, env={"GOLDSPAWN_NO_REPORT": "no"})
    assert {key: ended.outcome(f"check_{key}") for key in KEYS} == dict.fromkeys(KEYS, "FAILED"), ended.output
    told = " ".join(ended.output.split())
    assert {key: text for key, text in TELLS.items() if text not in told} == {}, ended.output
    assert re.search(r"and 0\.0 s are allowed here; it waited for: \S+\.target @[\d.]+s", told), "the critical chain"
    assert ended.output.count("hint: ") >= len(KEYS)
    page = (sessions.artifacts / "reports/bad.html").read_text()
    assert "everybody can write /srv/open" in page
    # What an image that passed has in its artifact.
    assert "The machine's journal" in page and "ill.service" in page.partition("The machine's journal")[2]
    assert re.search(r"Boot: \d+\.\d seconds", page) and "Chart of the boot" in page
    assert re.search(r">bash</th><td>1\.0-1</td>", page)
    index = sessions.artifacts / "reports/index.html"
    assert f"report: {index}" in ended.output
    assert "<title>1 image: 1 failed</title>" in index.read_text() and 'href="bad.html"' in index.read_text()
