"""Settings of image.toml in a running container: the .nspawn file that ships, with one command in the place of a boot.

Those that need a machine which has booted are in `test_settings_running.py`; docs/network.md says which test proves
which key.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.machine import settings
from pipeline.machine.written import apart
from tests.containers import Container, image

SHOWS = """#!/usr/bin/perl
print join("\\0", @ARGV, map { "$_=$ENV{$_}" } grep { /^GIVEN/ } sort keys %ENV);
"""


@pytest.fixture(scope="module")
def container(small_tree: Path) -> Iterator[Container]:
    """A small Debian, the same for all tests: they write to it where they say so."""
    (small_tree / "shows").write_text(SHOWS)
    (small_tree / "shows").chmod(0o755)
    made = Container("gs-settings", small_tree)
    yield made
    made.file.unlink(missing_ok=True)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory of the host's, on a file system on which user ids can be mapped."""
    where = Path("/run/goldspawn-shared")
    (where / "sub").mkdir(parents=True)
    (where / "file").write_text("host\n")
    try:
        yield where
    finally:
        shutil.rmtree(where)


ODD = ['say "x"', "it's", "a\\b", "\\", "end\\", "'\"'\"", "$HOME ${HOME} %n %%", "  two  words ", "", "a\tb", "#;ä=",
       "a\\nb", '"']  # fmt: skip


def test_parameters_and_environment_arrive_as_they_stand(container: Container, tmp_path: Path) -> None:
    variables = {f"GIVEN{number:02}": value for number, value in enumerate(ODD)}
    told = "".join(f"{name} = {json.dumps(value)}\n" for name, value in variables.items())
    text = f"[nspawn.exec]\nparameters = {json.dumps(['/shows', *ODD])}\n[nspawn.exec.environment]\n{told}"
    ended = container.run(settings.shipped(image(tmp_path, text)))
    assert ended.stderr == ""
    assert ended.stdout.split("\0") == [*ODD, *(f"{name}={value}" for name, value in variables.items())]


CALLS = "perl -e 'for (27, 149) { syscall($_, 4096, 4096, 0); print $!+0, qq(\\n) }'"
"""The errors of mincore(2) and mlock(2) of x86-64 for an address where nothing is: 1 where they are forbidden."""


def test_calls_are_allowed_and_forbidden_each_by_its_own_sign(container: Container, tmp_path: Path) -> None:
    for said, errors in (("", ["12", "1"]), ('"~mincore", "@memlock"', ["1", "12"]), ('"@memlock"', ["12", "12"])):
        assert container.ask(tmp_path, f"[nspawn.exec]\nsystem_call_filter = [{said}]", CALLS) == errors, said


LIMITS = {
    "as": ("1T", "Max address space", "1099511627776 1099511627776"),
    "core": ("1.5K:2K", "Max core file size", "1536 2048"),
    "cpu": ("1min 30s:1h", "Max cpu time", "90 3600"),
    "data": ("8G", "Max data size", "8589934592 8589934592"),
    "fsize": ("1P", "Max file size", "1125899906842624 1125899906842624"),
    "locks": ("5", "Max file locks", "5 5"),
    "memlock": ("1M:2M", "Max locked memory", "1048576 2097152"),
    "msgqueue": ("4096:8192", "Max msgqueue size", "4096 8192"),
    "nice": ("+5:-5", "Max nice priority", "15 25"),
    "nproc": ("4000:infinity", "Max processes", "4000 unlimited"),
    "rss": ("4G", "Max resident set", "4294967296 4294967296"),
    "rtprio": ("7", "Max realtime priority", "7 7"),
    "rttime": ("10ms", "Max realtime timeout", "10000 10000"),
    "sigpending": ("300:400", "Max pending signals", "300 400"),
    "stack": ("8M:16M", "Max stack size", "8388608 16777216"),
}


def test_every_limit_holds(container: Container, tmp_path: Path) -> None:
    given = ", ".join(f'{name} = "{value}"' for name, (value, _, _) in LIMITS.items())
    text = f"boot = {{private_users = false, nofile = 4096}}\n[nspawn.exec]\nlimits = {{{given}}}"
    found = {line[:26].strip(): line[26:68].split() for line in container.ask(tmp_path, text, "cat /proc/self/limits")}
    assert found["Max open files"] == ["4096", "4096"]
    wanted = {what: values.split() for _, what, values in LIMITS.values()}
    assert {what: found[what] for what in wanted} == wanted


def test_personality(container: Container, tmp_path: Path) -> None:
    for name, machine in (("x86", "i686"), ("x86-64", "x86_64")):
        assert container.ask(tmp_path, f'[nspawn.exec]\npersonality = "{name}"', "uname -m") == [machine]


@pytest.mark.parametrize(
    ("users", "uids", "owner"),
    [
        ("false", ["0", "0", "4294967295"], "0"),
        ('"identity"', ["0", "0", "65536"], "0"),
        ('"524288"', ["0", "524288", "65536"], "0"),
        ('"600000:131072"', ["0", "600000", "131072"], "0"),
    ],
)
def test_user_ids(users: str, uids: list[str], owner: str, container: Container, tmp_path: Path) -> None:
    script = "cat /proc/self/uid_map; stat --format=%u /etc/passwd; touch /tmp/mine && rm /tmp/mine"
    told = container.ask(tmp_path, f"[boot]\nprivate_users = {users}", script)
    assert (told[0].split(), told[1]) == (uids, owner)


def test_ownership_of_files(container: Container, tmp_path: Path) -> None:
    """Mapped, the files stay root's on the disk; with chown they are the range's own, for ever after."""
    users = '[boot]\nprivate_users = "524288"\n[nspawn.files]\nprivate_users_ownership = '
    file, script = container.tree / "etc/passwd", "stat --format=%u /etc/passwd"
    assert container.ask(tmp_path, f'{users}"off"', script) == ["65534"]
    assert (container.ask(tmp_path, f'{users}"map"', script), file.stat().st_uid) == (["0"], 0)
    try:
        assert (container.ask(tmp_path, f'{users}"chown"', script), file.stat().st_uid) == (["0"], 524288)
    finally:
        for path in (container.tree, *container.tree.rglob("*")):
            status = path.lstat()
            os.chown(path, status.st_uid % 65536, status.st_gid % 65536, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(status.st_mode & 0o7777)


def test_a_root_that_forgets_all_but_usr(container: Container, tmp_path: Path) -> None:
    script = "stat --file-system --format=%T /; ls /usr | head -1; touch /usr/new || touch /new && ls /home | wc -l"
    assert container.ask(tmp_path, '[nspawn.files]\nvolatile = "yes"', script) == ["tmpfs", "bin", "0"]
    assert not (container.tree / "new").exists()


def test_a_root_over_which_changes_are_forgotten(container: Container, tmp_path: Path) -> None:
    for users in ("false", '"identity"'):
        text = f'boot = {{private_users = {users}}}\n[nspawn.files]\nvolatile = "overlay"'
        assert container.ask(tmp_path, text, "touch /new /usr/new; ls /new /usr/new") == ["/new", "/usr/new"]
        assert not (container.tree / "new").exists()


def test_another_root(container: Container, tmp_path: Path) -> None:
    deploy = container.tree / "deploy"
    deploy.mkdir()
    try:
        parts = [str(container.tree / one) for one in ("bin", "lib", "lib64", "usr", "etc")]
        subprocess.run(["cp", "-al", *parts, str(deploy)], check=True)
        for name in ("old", "proc", "sys", "dev", "run", "tmp"):
            (deploy / name).mkdir()
        for said, old in (("/deploy", ""), ("/deploy:/old", "shows")):
            text = f'boot = {{private_users = false}}\n[nspawn.exec]\npivot_root = "{said}"'
            assert container.ask(tmp_path, text, "ls -d /old/shows; test -e /shows || echo inner; true") == [
                *([f"/old/{old}"] if old else []), "inner",
            ]  # fmt: skip
    finally:
        shutil.rmtree(deploy)


@pytest.fixture
def resolved() -> Iterator[dict[str, str]]:
    """What the host has for each kind of `resolv_conf`, with those of systemd-resolved if it has none of its own."""
    folder = Path("/run/systemd/resolve")
    files = {"uplink": folder / "resolv.conf", "stub": folder / "stub-resolv.conf"}
    made = {path for path in files.values() if not path.exists()}
    folder.mkdir(parents=True, exist_ok=True)
    for path in made:
        path.write_text(f"# {path.name}\nnameserver 192.0.2.53\n")
    files |= {"host": Path("/etc/resolv.conf"), "static": Path("/usr/lib/systemd/resolv.conf")}
    try:
        yield {kind: path.read_text() for kind, path in files.items() if path.exists()}
    finally:
        for path in made:
            path.unlink()


@pytest.mark.parametrize("how", ["copy", "replace", "bind"])
def test_names_are_resolved_as_said(how: str, resolved: dict[str, str], container: Container, tmp_path: Path) -> None:
    file = container.tree / "etc/resolv.conf"
    script = "cat /etc/resolv.conf; grep -c ' /etc/resolv.conf ' /proc/self/mountinfo"
    for kind, content in resolved.items():
        file.unlink(missing_ok=True)
        file.write_text("# its own\n")
        told = container.ask(tmp_path, f'[nspawn.exec]\nresolv_conf = "{how}-{kind}"', f"{script} || true")
        assert told == [*content.splitlines(), "1" if how == "bind" else "0"], kind
    assert len(resolved) >= 3


def test_names_are_resolved_by_its_own_file_or_by_none(container: Container, tmp_path: Path) -> None:
    for mode, left in (("off", "# its own"), ("auto", "# its own"), ("delete", "gone")):
        (container.tree / "etc/resolv.conf").write_text("# its own\n")
        script = "cat /etc/resolv.conf 2>/dev/null || echo gone"
        assert container.ask(tmp_path, f'[nspawn.exec]\nresolv_conf = "{mode}"', script) == [left]


@pytest.mark.parametrize(
    ("mode", "link", "mounts", "hosts"),
    [
        ("off", "own", "0", False),
        ("copy", "there", "0", True),
        ("bind", "own", "1", True),
        ("symlink", "host", "0", True),
        ("auto", "host", "0", True),
        ("delete", "gone", "0", None),
    ],
)
def test_time_zone(mode: str, link: str, mounts: str, hosts: bool | None, container: Container, tmp_path: Path) -> None:
    host = str(Path("/etc/localtime").readlink()).partition("zoneinfo/")[2]
    own = "Asia/Tokyo" if host != "Asia/Tokyo" else "Europe/Paris"
    for zone in (host, own):
        file = container.tree / "usr/share/zoneinfo" / zone
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(f"/usr/share/zoneinfo/{zone}", file)
    links = {"own": f"/usr/share/zoneinfo/{own}", "host": f"../usr/share/zoneinfo/{host}"}
    (container.tree / "etc/localtime").unlink(missing_ok=True)
    (container.tree / "etc/localtime").symlink_to(links["own"])
    script = "readlink /etc/localtime || (test -e /etc/localtime && echo there || echo gone)"
    script += "; grep -c zoneinfo /proc/self/mountinfo || true; date +%Z"
    found = container.ask(tmp_path, f'[nspawn.exec]\ntimezone = "{mode}"', script)
    assert found[:2] == [links.get(link, link), mounts]
    zones = [
        subprocess.run(["date", "+%Z"], capture_output=True, text=True, check=True, env={"TZ": zone}).stdout.strip()
        for zone in (own, host, "UTC")
    ]
    assert found[2] == zones[2 if hosts is None else int(hosts)]


def test_what_is_written_to_an_overlay_is_seen(container: Container, tmp_path: Path) -> None:
    text = 'boot = {private_users = false}\n[nspawn.files]\noverlay = ["+/opt::/opt"]'
    assert container.ask(tmp_path, text, "touch /opt/new && ls /opt") == ["new"]
    assert not (container.tree / "opt/new").exists()


def test_what_is_written_to_a_bind_arrives_at_the_host(shared: Path, container: Container, tmp_path: Path) -> None:
    """As it ships; the machine that is verified is another thing, below."""
    script = "id -u; stat --format=%u /mnt; echo new > /mnt/new"
    assert container.ask(tmp_path, f'[nspawn.files]\nbind = ["{shared}:/mnt:idmap"]', script) == ["0", "0"]
    assert ((shared / "new").read_text(), (shared / "new").stat().st_uid) == ("new\n", 0)


WRITES = r"""
stat --format='%u %g %a' /mnt /mnt/file
touch /mnt/new && echo new
echo more >> /mnt/file && cat /mnt/file
touch /mnt/sub/new && echo sub
"""


@pytest.fixture
def upper() -> Iterator[Path]:
    """Where a machine's writes are, as `pipeline.machine.unit` has it."""
    where = Path("/var/tmp/goldspawn-written-test")
    try:
        yield where
    finally:
        shutil.rmtree(where, ignore_errors=True)


@pytest.mark.parametrize(
    ("users", "option", "owner", "seen"),
    [
        ("true", "", 0, ["65534 65534 750"]),
        ("false", "", 7, ["7 7 750", "7 7 644", "new", "host", "more", "sub"]),
        ("true", ":idmap", 0, ["0 0 750", "0 0 644", "new", "host", "more", "sub"]),
        ("true", ":idmap", 7, ["7 7 750", "7 7 644", "new", "host", "more", "sub"]),
        ("true", ":rootidmap", 7, ["0 0 750", "0 0 644", "new", "host", "more", "sub"]),
        ('"524288"', ":rootidmap", 7, ["0 0 750", "0 0 644", "new", "host", "more", "sub"]),
        ("true", ":owneridmap", 7, ["0 0 750", "0 0 644", "new", "host", "more", "sub"]),
    ],
)
def test_a_verified_machine_writes_to_a_bind_as_where_it_ships_and_nothing_arrives(
    users: str, option: str, owner: int, seen: list[str], shared: Path, upper: Path, container: Container,
    tmp_path: Path,
) -> None:  # fmt: skip
    for path in (shared, *shared.rglob("*")):
        os.chown(path, owner, owner)
    shared.chmod(0o750)
    text = f'boot = {{private_users = {users}}}\n[nspawn.files]\nbind = ["{shared}:/mnt{option}"]'
    made = image(tmp_path, text)
    runs = apart(settings.verified(made), container.name, container.tree, upper)
    there = container.run(runs, "/bin/sh", "-c", WRITES)
    assert {path.name for path in shared.rglob("*")} == {"sub", "file"}
    assert (shared / "file").read_text() == "host\n"
    ships = container.run(settings.shipped(made), "/bin/sh", "-c", WRITES)
    assert there.stdout == ships.stdout, (there, ships)
    assert ships.stdout.splitlines() == seen
