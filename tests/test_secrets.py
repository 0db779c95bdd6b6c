"""Secrets: who needs one is given it, and it is read nowhere else; canaries are planted, and looked for everywhere."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets as random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipeline import remains
from pipeline.artifact import manifest, receive
from pipeline.command import SILENT, BuildLog, output, run
from pipeline.errors import CheckFailed, CommandFailed, InputError
from pipeline.image import Image, load
from pipeline.machine import host, settings
from pipeline.masking import hide, masked
from pipeline.place import Place
from pipeline.secrets import Secrets, nowhere_in, opened, read
from pipeline.user_cache import exchange
from tests.conftest import SMALL, Session, Sessions

NASTY = 'it\'s "two"  words; # \\n \\x41 %i %% %h $HOME ${PATH} ü:\t\nlast line \n'
"""A credential that ships, with all that means something to systemd on its way."""

KEEPER = (
    SMALL
    + """
[profile]
enable = ["show.service"]
run = ["wc -c < /run/secrets/build-key > /etc/length", "echo told $(cat /run/secrets/build-key)"]

[secrets.build-key]
file = "../build-key"
use = ["run"]

[secrets.db-password]
env = "DB_PASSWORD"

[boot.credentials]
"""
    + f"nasty = {json.dumps(NASTY)}\n"
)
LEAKER = (
    SMALL
    + """
[profile]
run = ["cp /run/secrets/build-key /etc/kept"]

[secrets.build-key]
file = "../build-key"
use = ["run"]
"""
)
SHOW = """
[Service]
Type=oneshot
RemainAfterExit=yes
LoadCredential=db-password
LoadCredential=nasty
ExecStart=/bin/sh -c 'base64 --wrap=0 ${CREDENTIALS_DIRECTORY}/nasty > /run/nasty'
ExecStart=/bin/sh -c 'sha256sum < ${CREDENTIALS_DIRECTORY}/db-password > /run/digest'
ExecStart=/bin/sh -c 'echo "told $(cat ${CREDENTIALS_DIRECTORY}/db-password)"'
[Install]
WantedBy=multi-user.target
"""
IN_BASE64 = base64.b64encode(NASTY.encode()).decode()
CONTROL = "a control that is looked for as the canaries are"


def test_one_source_each_and_none_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    folder = tmp_path / "web"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "image.toml").write_text('[secrets.a]\nenv = "NOT_SET"\n[secrets.b]\nfile = "gone"\n')
    image = load(folder)
    with pytest.raises(InputError) as caught, opened(image):
        pass
    assert str(caught.value).splitlines() == [
        "image.toml: secrets.a: the environment has no NOT_SET",
        "hint: export NOT_SET=…",
        "image.toml: secrets.b: gone cannot be read (No such file or directory)",
    ]
    monkeypatch.setenv("NOT_SET", "set now")
    assert read(image, "a") == b"set now"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[secrets.a]\n", "secrets.a: expected either `file` or `env`"),
        ('[secrets.a]\nfile = "x"\nenv = "Y"\n', "secrets.a: expected either `file` or `env`"),
        ('[secrets."a/b"]\nenv = "Y"\n', "expected letters, digits, dots, underscores and hyphens"),
        ('[secrets.a]\nenv = "1Y"\n', 'secrets.a.env: expected the name of a variable such as "DB_PASSWORD"'),
        ('[secrets.a]\nvalue = "Y"\n', "secrets.a.value: unknown key"),
        ('[secrets.a]\nenv = "Y"\nuse = ["git"]\n', "`secrets.a`: git logs in for ebuild repositories"),
    ],
)
def test_mistakes_are_told(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/image.toml").write_text(text)
    with pytest.raises(InputError) as caught:
        load(tmp_path / "web")
    assert problem in str(caught.value)


def test_what_commands_print_is_masked(tmp_path: Path) -> None:
    secret = random.token_hex(12)
    hide(f"short\n{secret}\n".encode())
    with BuildLog(tmp_path / "log") as log:
        assert run(["echo", f"it is {secret}"], log=log, timeout=10).stdout == "it is ***"
    assert secret not in (tmp_path / "log").read_text()
    assert masked(f"short {secret}") == "short ***", "what is short is part of many words"


SSH_KEY = (
    b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE\nAAAAB3NzaC1yc2EAAAADAQ\n"
    b"-----END OPENSSH PRIVATE KEY-----\n"
)
LOGIN = b"machine packages.example.org\nlogin me\npassword hunter22\n"
LONG_LOGIN = b"machine a.example login subscription-1234 password hunter22"
BINARY = b"\0\xff\x80ke\ny\xfe\0-of-bytes\xfd"


def given(secret: bytes, folder: Path, use: str = "run") -> Image:
    """An image with one secret, called `some`."""
    (folder / "web").mkdir()
    (folder / "web/image.toml").write_text(f'[secrets.some]\nfile = "../some"\nuse = ["{use}"]\n')
    (folder / "some").write_bytes(secret)
    return load(folder / "web")


@pytest.mark.parametrize(
    ("secret", "use", "leaks", "innocent"),
    [
        (b"canary-1\n", "run", [b"is canary-1."], [b"canary"]),
        (b"a longer first line\nhunter22\n", "run", [b"a longer first line", b"x=hunter22"], [b"hunter"]),
        (LOGIN, "apt", [b"hunter22", LOGIN], [b"machine packages.example.org", b"login me"]),
        (LONG_LOGIN, "apt", [b"hunter22", b"subscription-1234"], [b"a.example"]),
        (LOGIN, "run", [b"machine packages.example.org", b"password hunter22"], [b"hunter22"]),
        (SSH_KEY, "run", [b"b3BlbnNzaC1rZXktdjE", b"AAAAB3NzaC1yc2EAAAADAQ"], [SSH_KEY.splitlines()[0]]),
        (b"[client]\npassword=hunter22\n", "run", [b"password=hunter22"], [b"[client]"]),
        (b"[client]", "run", [b"[client]"], []),
        (BINARY, "run", [b"x" + BINARY + b"y"], [BINARY[:3], b"-of-bytes"]),
        ("größer\r\nals".encode(), "run", ["größer".encode()], [b"als"]),
    ],
)
def test_what_stands_in_a_tree_is_found(
    secret: bytes, use: str, leaks: list[bytes], innocent: list[bytes], tmp_path: Path
) -> None:
    image = given(secret, tmp_path, use)
    memory, tree = tmp_path / "memory", tmp_path / "tree"
    memory.mkdir()
    (tree / "etc").mkdir(parents=True)
    os.mkfifo(tree / "etc/fifo")
    (tree / "etc/dangling").symlink_to("nowhere")
    secrets = Secrets(image, {"some": read(image, "some")}, memory)
    for number, text in enumerate(innocent):
        (tree / f"etc/innocent{number}").write_bytes(b"first\n" + text + b"\nlast")
    nowhere_in(tree, secrets, SILENT)
    for leak in leaks:
        (tree / "etc/leaked").write_bytes(b"first\n" + leak + b"\nlast")
        with pytest.raises(CheckFailed) as caught:
            nowhere_in(tree, secrets, SILENT)
        assert caught.value.message == "secrets.some of image.toml stands in the tree: /etc/leaked"
        assert leak.decode(errors="replace") not in str(caught.value)


def test_a_search_that_cannot_be_made_is_no_pass(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed):
        nowhere_in(tmp_path / "no-tree", Secrets(given(b"", tmp_path), {"some": b"canary-1"}, tmp_path), SILENT)


@pytest.mark.parametrize(
    ("secret", "use"),
    [
        (b"1234\n", "run"),
        (b"12345\nabcde\n", "credential"),
        (b"\xff\0\n\xff", "run"),
        (b"machine packages.example.org login me password abc", "apt"),
        (b"machine a.example login me password abcdefg\nmachine b.example login me password abc", "apt"),
    ],
)
def test_what_is_too_short_to_be_looked_for_is_refused(secret: bytes, use: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"secrets\.some: what .*some holds is shorter than 6 characters"):
        read(given(secret, tmp_path, use), "some")


def test_passwords_of_logins_and_bytes_are_masked(tmp_path: Path) -> None:
    word, blob = f"pass-{random.token_hex(6)}", b"\xff\xfe\0" + random.token_hex(6).encode() + b"\xfd"
    hide(f"machine packages.example.org\nlogin me\npassword {word}\n".encode(), logins=True)
    hide(blob)
    assert masked(f"apt of login me said {word}!") == "apt of login me said ***!"
    assert run(["printf", r"(\xff\xfe\x00" + blob[3:-1].decode() + r"\xfd)"], timeout=10).stdout == "(***)"


def test_the_environment_may_hold_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME", os.fsdecode(b"key\xff\xfe-of-bytes"))
    (tmp_path / "web").mkdir()
    (tmp_path / "web/image.toml").write_text('[secrets.some]\nenv = "SOME"\n')
    assert read(load(tmp_path / "web"), "some") == b"key\xff\xfe-of-bytes"


def test_a_host_hands_a_credential_on(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/image.toml").write_text('[secrets.db]\nenv = "DB"\n[secrets.key]\nenv = "KEY"\nuse = ["run"]\n')
    image = load(tmp_path / "web")
    text = dict(settings.files(image))[f"{image.name}.conf"]
    assert f"\nLoadCredential=db:{image.name}.db\nExecStart=\nExecStart=systemd-nspawn " in text
    assert text.rstrip().endswith("--machine=%i --load-credential=db:db")


@dataclass(frozen=True)
class Kept:
    """A session that ended, its canaries, and what was seen of command lines meanwhile."""

    sessions: Sessions
    session: Session
    canaries: tuple[str, str]
    lines: set[str]


@contextlib.contextmanager
def watching() -> Iterator[set[str]]:
    """The command lines of all processes while the block runs, looked at many times a second."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def kept(bootstrapped: Place, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A session on an image that is given a secret while it is built, and a credential when it boots."""
    sessions = Sessions(tmp_path_factory.mktemp("kept"))
    canaries = f"canary-{random.token_hex(16)}", f"canary-{random.token_hex(16)}"
    (sessions.images / "build-key").write_text(canaries[0] + "\n")
    digest = hashlib.sha256(canaries[1].encode()).hexdigest()
    files = {"etc/systemd/system/show.service": SHOW, "etc/control": CONTROL}
    tests = f"def test_it_has_it(machine):\n    assert '{digest}' in machine.check_output('cat /run/digest')\n"
    tests += (
        f"def test_it_has_what_ships(machine):\n    assert '{IN_BASE64}' == machine.check_output('cat /run/nasty')\n"
    )
    sessions.image("keeper", KEEPER, tests=tests, root=files)
    options = ("--image=keeper", "--rebuild=profile", f"--junitxml={sessions.artifacts}/junit.xml")
    with watching() as lines:
        env = {"DB_PASSWORD": canaries[1], "GOLDSPAWN_NO_REPORT": "no"}
        session = sessions.run(*options, env=env)
    return Kept(sessions, session, canaries, lines)


def holds(text: str, *where: str) -> list[str]:
    """The files in which a text stands, looked for in all files below `where`."""
    argv = ["grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings", "--devices=skip", text]
    return subprocess.run([*argv, *where], capture_output=True, text=True, timeout=300).stdout.splitlines()


def test_who_needs_a_secret_has_it(kept: Kept) -> None:
    assert kept.session.status == 0, kept.session.output
    assert kept.session.outcome("test_it_has_it") == "PASSED"
    assert kept.session.outcome("test_it_has_what_ships") == "PASSED", "a credential of image.toml"


def test_ci_is_told_of_the_version_and_of_no_secret(kept: Kept) -> None:
    made = manifest.load(kept.sessions.artifacts / "keeper")
    cases = ElementTree.parse(kept.sessions.artifacts / "junit.xml").iter("testcase")
    told = {case.attrib["name"]: {one.attrib["name"]: one.attrib["value"] for one in case.iter("property")}
            for case in cases}  # fmt: skip
    assert made.boot is not None
    snapshot = told["snapshot"]
    assert snapshot["goldspawn_note"].startswith(made.snapshot.name)
    assert made.stream.file in snapshot["goldspawn_exported"]
    assert snapshot["goldspawn_version"] == made.version
    assert snapshot["goldspawn_boot_seconds"] == f"{made.boot.seconds:.1f}"
    assert told["machinectl_list"] == {"goldspawn_image": "keeper"}
    assert told["boot"]["goldspawn_note"].startswith("ready and healthy after ")


def test_canaries_stand_in_nothing_that_is_kept_or_shown(kept: Kept, place: Place) -> None:
    artifacts = str(kept.sessions.artifacts)
    made = manifest.load(kept.sessions.artifacts / "keeper")
    log = (kept.sessions.artifacts / "logs/keeper.log").read_text()
    journal = (kept.sessions.artifacts / "keeper/journal.log").read_text()
    assert "told ***" in log, "the command did not print it"
    assert "told ***" in journal, "the unit did not print it"
    assert holds("told ***", artifacts), "the way to look finds nothing"
    snapshots = output(["zfs", "list", "-Hro", "name", "-t", "snapshot", place.layout.base]).stdout.split()
    mine = [name for name in snapshots if "/keeper@" in name]
    assert made.snapshot.name in mine
    for canary in kept.canaries:
        assert canary not in kept.session.output
        assert holds(canary, artifacts, str(exchange() / "tars"), "/var/log", "/run/log") == []
        assert [line for line in kept.lines if canary in line] == []
        for snapshot in mine:  # as a stream whose blocks are not compressed
            script = f"zfs send {snapshot} | grep --count --text --fixed-strings {canary}"
            assert subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout.strip() == "0"
    control = f"zfs send {made.snapshot.name} | grep --count --text --fixed-strings '{CONTROL}'"
    assert subprocess.run(["sh", "-c", control], capture_output=True, text=True).stdout.strip() != "0"
    assert any("load-credential=db-password:/run/goldspawn/secrets/" in line for line in kept.lines)


def test_nothing_is_left_in_memory(kept: Kept) -> None:
    assert holds(kept.canaries[0], "/run/goldspawn") + holds(kept.canaries[1], "/run/goldspawn") == []


def test_on_a_host_the_machine_has_it_from_the_credential_store(kept: Kept, place: Place) -> None:
    """From a clone in place of what was received, which is the same."""
    folder = kept.sessions.artifacts / "keeper"
    made = manifest.load(folder)
    assert "/etc/credstore/keeper.db-password" in (folder / receive.GUIDE).read_text()
    dataset = f"{place.layout.base}/keeper-host"
    store = Path("/etc/credstore/keeper.db-password")
    store.parent.mkdir(exist_ok=True)
    run(["zfs", "clone", "-o", "mountpoint=/var/lib/machines/keeper", made.snapshot.name, dataset], timeout=60)
    try:
        store.write_text(kept.canaries[1])
        run(["/bin/sh", "-ec", "\n".join(receive.install(made))], cwd=folder, timeout=60)
        run(["systemctl", "start", "systemd-nspawn@keeper"], timeout=place.limit(90))
        digest = hashlib.sha256(kept.canaries[1].encode()).hexdigest()
        assert digest in host("keeper").check_output("cat /run/digest")
        assert host("keeper").check_output("cat /run/nasty") == IN_BASE64, "by the drop-in that ships"
    finally:
        run(["systemctl", "stop", "systemd-nspawn@keeper"], timeout=place.limit(90), check=False)
        Path("/etc/systemd/nspawn/keeper.nspawn").unlink(missing_ok=True)
        shutil.rmtree("/etc/systemd/system/systemd-nspawn@keeper.service.d", ignore_errors=True)
        store.unlink()
        again = f"for try in 1 2 3 4 5 6; do zfs destroy {dataset} && exit; sleep 2; done; exit 1"
        run(["sh", "-c", f"systemctl daemon-reload; {again}"], timeout=120)


def test_a_command_that_writes_a_secret_down_is_found_out(bootstrapped: Place, sessions: Sessions) -> None:
    (sessions.images / "build-key").write_text(f"canary-{random.token_hex(16)}")
    sessions.image("leaker", LEAKER)
    ended = sessions.run("--image=leaker", "-k", "profile")
    assert ended.outcome("profile") == "FAILED", ended.output
    assert "secrets.build-key of image.toml stands in the tree: /etc/kept" in ended.output


TELLTALE = """
import os

def test_it_tells(machine):
    print("printed " + os.environ["DB_PASSWORD"])
    assert machine.check_output("true") == os.environ["DB_PASSWORD"]
"""


def test_a_test_that_fails_tells_no_secret(bootstrapped: Place, sessions: Sessions) -> None:
    canary = f"canary-{random.token_hex(16)}"
    sessions.image("telltale", SMALL + '[secrets.db-password]\nenv = "DB_PASSWORD"\n', tests=TELLTALE)
    ended = sessions.run("--image=telltale", "-k", "test_it_tells", env={"DB_PASSWORD": canary})
    assert ended.outcome("test_it_tells") == "FAILED", ended.output
    assert "printed ***" in ended.output
    assert canary not in ended.output
    left = remains.load(sessions.artifacts / "logs/telltale.log")
    assert left.journal and left.packages and left.boot is not None, "for the page"
    assert holds(canary, str(sessions.artifacts)) == []


def test_a_secret_that_is_not_there_stops_an_image_before_anything_is_touched(place: Place, sessions: Sessions) -> None:
    sessions.image("keeper", KEEPER)
    ended = sessions.run("--image=keeper")
    assert ended.outcomes("FAILED") + ended.outcomes("ERROR") == ["dataset"], ended.output
    assert "secrets.build-key: " in ended.output and "secrets.db-password: the environment has no" in ended.output
