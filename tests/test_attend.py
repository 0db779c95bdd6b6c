"""Somebody at the terminal looks at a machine in the middle of a session: `--shell` and `--keep`."""

from __future__ import annotations

import subprocess

import pexpect

from pipeline.place import Place
from tests.conftest import SMALL, Sessions

SLOW = ("shell", "login", "reboot", "status", "show")


def at_a_terminal(sessions: Sessions, place: Place, image: str, *options: str) -> pexpect.spawn:
    slow = [f"--deselect={image}/image.toml::machinectl_{one}" for one in SLOW]
    argv, environment = sessions.command(f"--image={image}", *slow, *options)
    return pexpect.spawn(argv[0], argv[1:], cwd=str(sessions.images), env={**environment, "TERM": "xterm"},
                         timeout=place.limit(30), dimensions=(40, 120), encoding="utf-8")  # fmt: skip


def test_a_shell_is_opened_when_all_is_checked(bootstrapped: Place, sessions: Sessions) -> None:
    sessions.image("shown", SMALL, tests="def test_it_runs(machine): assert machine.run('true').rc == 0\n")
    session = at_a_terminal(sessions, bootstrapped, "shown", "--shell")
    session.expect(r"all checks passed: a shell in shown-gs\d+; leave it to go on\.")
    session.expect("# ")
    session.sendline("echo name: $(cat /etc/hostname)")
    session.expect("name: shown")
    session.sendline("exit")
    session.expect("machinectl_poweroff")
    session.expect(pexpect.EOF)
    session.close()
    assert session.exitstatus == 0


def test_a_machine_of_which_a_check_failed_runs_on_until_enter(bootstrapped: Place, sessions: Sessions) -> None:
    sessions.image("kept", SMALL, tests="def test_it_fails(machine): assert machine.run('false').rc == 0\n")
    session = at_a_terminal(sessions, bootstrapped, "kept", "--keep")
    session.expect(r"test_it_fails failed: (kept-gs\d+) runs on")
    name = session.match[1]
    session.expect(f"machinectl shell {name}")
    session.expect("Enter ends it")
    shown = subprocess.run(["machinectl", "show", name, "--property=State"], capture_output=True, text=True)
    assert shown.stdout.strip() == "State=running"
    session.sendline("")
    session.expect(pexpect.EOF)
    session.close()
    assert session.exitstatus == 1
    assert subprocess.run(["machinectl", "show", name], capture_output=True).returncode != 0


def test_nobody_is_waited_for_where_there_is_no_terminal(bootstrapped: Place, sessions: Sessions) -> None:
    sessions.image("alone", SMALL, tests="def test_it_fails(machine): assert machine.run('false').rc == 0\n")
    slow = [f"--deselect=alone/image.toml::machinectl_{one}" for one in SLOW]
    ended = sessions.run("--image=alone", "--keep", "--shell", *slow)
    assert ended.status == 1, ended.output
    assert ended.outcome("machinectl_poweroff") == "PASSED"
