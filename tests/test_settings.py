"""The settings of a machine: what image.toml says becomes what systemd takes, and what is verified is what ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.image import Image, load
from pipeline.image.containers import unmapped
from pipeline.machine import settings
from pipeline.machine.written import apart


def image(folder: Path, text: str = "") -> Image:
    made = folder / "web"
    made.mkdir(exist_ok=True)
    (made / "image.toml").write_text(text)
    return load(made)


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_what_ships_by_default(tmp_path: Path) -> None:
    made = dict(settings.files(image(tmp_path)))
    assert list(made) == ["web.nspawn"], "a drop-in is there where it says something"
    assert rows(made["web.nspawn"]) == [
        "[Exec]", "Boot=yes", "PrivateUsers=pick", "NotifyReady=yes", "ResolvConf=off", "Timezone=off",
        "[Network]", "Private=yes", "VirtualEthernet=yes", "[Files]", "PrivateUsersOwnership=auto",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[boot]\nnofile = 64", "LimitNOFILE=64"),
        ("[boot]\nprivate_users = false", "PrivateUsers=no"),
        ('[boot]\nprivate_users = "identity"', "PrivateUsers=identity"),
        ('[boot]\nprivate_users = "524288:131072"', "PrivateUsers=524288:131072"),
        ('[boot]\nprivate_users = "524288"', "PrivateUsersOwnership=auto"),
        ("[nspawn.exec]\nnotify_ready = false", "NotifyReady=no"),
        ('[nspawn.exec]\nparameters = ["a b", "systemd.unit=x"]', 'Parameters="a b" "systemd.unit=x"'),
        ("[nspawn.exec.environment]\nA = 'say \"x\" \\'", """Environment="A=say "'"'"x"'"'" \\\""""),
        ("[nspawn.exec]\nparameters = [\"it's\", '']", 'Parameters="it\'s" ""'),
        ('[nspawn.exec]\ncapability = ["CAP_NET_ADMIN", "CAP_BPF"]', "Capability=CAP_NET_ADMIN CAP_BPF"),
        ('[nspawn.exec]\ndrop_capability = ["CAP_SYS_ADMIN"]', "DropCapability=CAP_SYS_ADMIN"),
        ("[nspawn.exec]\nno_new_privileges = true", "NoNewPrivileges=yes"),
        ('[nspawn.exec]\nkill_signal = "SIGRTMIN+4"', "KillSignal=SIGRTMIN+4"),
        ('[nspawn.exec]\nsystem_call_filter = ["~swapon", "@clock", "bpf"]', "SystemCallFilter=@clock bpf"),
        ('[nspawn.exec]\nsystem_call_filter = ["~swapon", "@clock", "~@ipc"]', "SystemCallFilter=~swapon @ipc"),
        ('[nspawn.exec]\nsystem_call_filter = ["~swapon"]', "SystemCallFilter=~swapon"),
        ('[nspawn.exec]\nlimits = {core = "0", nproc = "8:16"}', "LimitNPROC=8:16"),
        ("boot = {private_users = false}\n[nspawn.exec]\noom_score_adjust = 0", "OOMScoreAdjust=0"),
        ("[nspawn.exec]\ncpu_affinity = [0, 1]", "CPUAffinity=0 1"),
        ('[nspawn.exec]\nresolv_conf = "bind-stub"', "ResolvConf=bind-stub"),
        ('[nspawn.exec]\npivot_root = "/deploy:/old"', "PivotRoot=/deploy:/old"),
        ("[nspawn.files]\nread_only = true", "ReadOnly=yes"),
        ('[nspawn.files]\nvolatile = "state"', "Volatile=state"),
        ('[nspawn.files]\nbind = ["/srv/x:/y:idmap"]', "Bind=/srv/x:/y:idmap"),
        ('[nspawn.files]\noverlay = ["+/var::/var"]', "Overlay=+/var::/var"),
        ('[nspawn.files]\ntemporary_file_system = ["/tmp:size=1M"]', "TemporaryFileSystem=/tmp:size=1M"),
        ('[nspawn.network]\nbridge = "br0"', "Bridge=br0"),
        ('[nspawn.network]\nmacvlan = ["eth0"]', "MACVLAN=eth0"),
        ('[nspawn.network]\nmacvlan = ["eth0"]', "VirtualEthernet=no"),
        ('[nspawn.network]\nport = ["tcp:8080:80"]', "Port=tcp:8080:80"),
        ("[nspawn.network]\nprivate = false", "Private=no"),
    ],
)  # fmt: skip
def test_each_key_is_the_directive_that_systemd_has(text: str, line: str, tmp_path: Path) -> None:
    assert line in rows(settings.shipped(image(tmp_path, text)).nspawn)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[boot]\nmemory_max = "512M"', "MemoryMax=512M"),
        ("[boot]\ncpu_quota = 150", "CPUQuota=150%"),
        ("[service]\ncpu_weight = 7", "CPUWeight=7"),
        ('[service]\nallowed_cpus = "0-1"', "AllowedCPUs=0-1"),
        ('[service]\ndevice_allow = ["/dev/fuse rw", "char-tty r"]', "DeviceAllow=char-tty r"),
        ('[service]\nrestart = "always"\nrestart_sec = 2.5', "RestartSec=2.5"),
        ('[service]\nip_address_deny = ["any"]', "IPAddressDeny=any"),
    ],
)
def test_the_unit_has_a_drop_in(text: str, line: str, tmp_path: Path) -> None:
    made = dict(settings.files(image(tmp_path, text)))
    assert rows(made["web.conf"])[0] == "[Service]"
    assert line in rows(made["web.conf"])


@pytest.mark.parametrize(
    ("value", "argument", "drop_in"),
    [
        ("C.UTF-8", "C.UTF-8", "C.UTF-8"),
        ("https://a.example/~x,y=1@b", "https://a.example/~x,y=1@b", "https://a.example/~x,y=1@b"),
        ("", "", ""),
        ('a "b"', r"a\x20\x22b\x22", r"a\\x20\\x22b\\x22"),
        ("50%h$HOME", r"50\x25h\x24HOME", r"50\\x25h\\x24HOME"),
        ("a\\n\nü'", r"a\x5cn\x0a\xc3\xbc\x27", r"a\\x5cn\\x0a\\xc3\\xbc\\x27"),
    ],
)
def test_a_credential_ships_as_its_value(value: str, argument: str, drop_in: str, tmp_path: Path) -> None:
    one = image(tmp_path, f'[boot.credentials]\n"firstboot.locale" = {json.dumps(value)}')
    ships = settings.shipped(one)
    assert ships.options == settings.verified(one).options == [f"--set-credential=firstboot.locale:{argument}"]
    assert [row.partition("=")[0] for row in rows(ships.drop_in)] == [
        "[Service]",
        "ExecStopPost",
        "ExecStart",
        "ExecStart",
    ]
    assert ships.drop_in.endswith(f" --machine=%i --set-credential=firstboot.locale:{drop_in}\n")


def test_credentials_of_both_kinds_are_passed_on_by_one_command(tmp_path: Path) -> None:
    text = '[secrets.db]\nenv = "DB"\n[boot.credentials]\n"login.issue" = "web"\n[service]\ncpu_weight = 7'
    made = dict(settings.files(image(tmp_path, text)))["web.conf"]
    told = [row for row in rows(made) if not row.startswith("ExecStopPost=")]
    assert told[:4] == ["[Service]", "CPUWeight=7", "LoadCredential=db:web.db", "ExecStart="]
    assert told[4].endswith("--machine=%i --load-credential=db:db --set-credential=login.issue:web")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[nspawn.exec]\ncapability = ["CAP_NET_ADMN"]', 'expected a capability such as "CAP_NET_ADMIN"'),
        ('[nspawn.exec]\nkill_signal = "SIGTREM"', 'expected a signal such as "SIGTERM"'),
        ('[nspawn.exec]\nlimits = {nofile = "5"}', "nspawn.exec.limits.nofile"),
        ('[nspawn.exec]\nlimits = {core = "much"}', 'expected for core a size as "8M"'),
        ('[nspawn.exec]\nsystem_call_filter = ["clock settime"]', "expected a system call or group"),
        ('[nspawn.exec]\nsystem_call_filter = ["~@clok"]', 'expected a group of system calls such as "@clock"'),
        ('[nspawn.exec]\nsystem_call_filter = ["bpf", "~bpf"]', 'system call "bpf" stands there twice'),
        ('[nspawn.exec]\nparameters = ["a\\rb"]', "expected text of one line"),
        ("[nspawn.exec]\noom_score_adjust = 5", "`nspawn.exec.oom_score_adjust` needs `boot.private_users = false`"),
        ('[nspawn.exec]\npivot_root = "/deploy:old"', 'expected a directory as "/deploy"'),
        ("[nspawn.files]\ninaccessible = ['/srv\\']", "expected an absolute path"),
        ("[nspawn.files]\nbind = ['/srv/a ']", "expected a path as"),
        ('[nspawn.files]\nbind = ["srv"]', 'expected a path as "/srv/www"'),
        ('[boot.credentials]\n"a:b" = "x"', 'expected the name of a credential such as "firstboot.locale"'),
        ('[boot.credentials]\n".hidden" = "x"', 'expected the name of a credential such as "firstboot.locale"'),
        ("[boot.credentials]\na = 5", "boot.credentials.a: expected a string, got 5"),
        (f'[boot.credentials]\na = "{"x" * 9000}"\nb = "{"ü" * 4000}"', "expected 16384 bytes at most in all, got"),
        ('[boot]\ncredentials = "x"', 'boot.credentials: expected a table, got "x"'),
        ('secrets.db = {env = "DB"}\n[boot.credentials]\ndb = "x"', "and `secrets` both have a credential db"),
        ('[boot]\nprivate_users = "pick"', 'expected true or false, "identity", or a range of at least 65536'),
        ('[boot]\nprivate_users = "524288:1000"', "or a range of at least 65536"),
        ('[boot]\nprivate_users = "2147450880"', "or a range of at least 65536 below 2^31"),
        ('boot = {private_users = "identity"}\n[nspawn.exec]\noom_score_adjust = -5', "`nspawn.exec.oom_score_adjust`"),
        ('[nspawn.files]\nvolatile = "overlay"', '`nspawn.files.volatile = "overlay"` needs `boot.private_users'),
        ('boot = {private_users = false}\n[nspawn.files]\nbind_user = ["joe"]', "`nspawn.files.bind_user` needs"),
        ('boot = {private_users = "identity"}\n[nspawn.files]\nbind_user = ["joe"]', "`nspawn.files.bind_user` needs"),
        ('boot = {private_users = false}\n[nspawn.files]\nbind = ["/a:/b:idmap"]', "`idmap` of `nspawn.files.bind`"),
        ('boot = {private_users = "identity"}\n[nspawn.files]\nbind_read_only = ["/a:/b:idmap"]', "there is nothing"),
        ('[nspawn.files]\nprivate_users_ownership = "chown"\nread_only = true', "and `read_only` exclude each other"),
        ('[nspawn.files]\nprivate_users_ownership = "chown"\nvolatile = "state"', "and `volatile` exclude each other"),
        ('boot = {private_users = "600000"}\n[nspawn.files]\nprivate_users_ownership = "chown"', 'such as "589824"'),
        ('[nspawn.files]\nbind = ["/a:/b:norbnd"]', 'expected a path as "/srv/www"'),
        ('[nspawn.files]\noverlay = ["/a:/b"]', "expected an overlay as"),
        ('[nspawn.network]\nbridge = "a-much-too-long-name"', "expected the name of an interface"),
        ('[nspawn.network]\nzone = "thirteenchars"', "expected the name of a zone"),
        ('[nspawn.network]\nport = ["tcp:99999"]', "expected a port as"),
        ('[nspawn.network]\nbridge = "br0"\nzone = "web"', "`bridge` and `zone` exclude each other"),
        ('[nspawn.network]\nprivate = false\nbridge = "br0"', "`bridge` is for a machine with a network of its own"),
        ('[nspawn.network]\nvirtual_ethernet = false\nzone = "x"', "`zone` needs the link host0"),
        ('[nspawn.netwrok]\nbridge = "br0"', 'nspawn.netwrok: unknown key; did you mean "network"?'),
        ('[nspawn.network]\nbrigde = "br0"', 'nspawn.network.brigde: unknown key; did you mean "bridge"?'),
        ('bridge = "br0"', 'did you mean "nspawn.network.bridge"?'),
        ('[service]\ndevice_allow = ["fuse"]', 'expected a device such as "/dev/fuse rwm"'),
        ('[service]\nallowed_cpus = "3-1"', 'expected processors such as "0-3"'),
        ('[service]\nip_address_deny = ["999.1.1.1"]', 'expected addresses such as "10.0.0.0/8"'),
        ('[service]\ndevice_policy = "strict"\ndevice_allow = ["/dev/null", "/dev/fuse"]', "/dev/zero, /dev/full"),
        ("[service]\ncpu_weight = 0", "service.cpu_weight: expected at least 1"),
    ],
)  # fmt: skip
def test_what_systemd_would_not_take_is_told_before(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        image(tmp_path, text)
    assert problem in str(caught.value)
    assert "image.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("nproc", ["8", "8:16", "infinity", "8:infinity"], ["8M", "-5", "16:8", "infinity:8", "1:2:3", "", "8:"]),
        ("sigpending", ["0"], ["1K"]),
        ("memlock", ["0", "8M", "1.5G:2G", "1024K:1M", "7B"], ["8m", "1KB", "1min", "1.5", "2M:1024K"]),
        ("cpu", ["90", "1min", "1min 30s", "1min30s", "0.5", "90s:2min"], ["8M", "1 fortnight", "2min:90", "-1"]),
        ("rttime", ["500", "10ms", "500:1ms"], ["10K", "2ms:1000"]),
        ("nice", ["-5", "+5", "40", "-20", "+5:-5"], ["41", "+20", "-21", "5K", "-5:+5"]),
    ],
)  # fmt: skip
def test_each_limit_is_one_that_systemd_can_read(name: str, good: list[str], bad: list[str], tmp_path: Path) -> None:
    for value in good:
        made = settings.shipped(image(tmp_path, f'[nspawn.exec]\nlimits = {{{name} = "{value}"}}'))
        assert f"Limit{name.upper()}={value}" in rows(made.nspawn)
    for value in bad:
        with pytest.raises(InputError) as caught:
            image(tmp_path, f'[nspawn.exec]\nlimits = {{{name} = "{value}"}}')
        assert f"nspawn.exec.limits: expected for {name} " in str(caught.value), value


def test_the_machine_that_is_verified_runs_with_what_ships(tmp_path: Path) -> None:
    text = '[boot]\nmemory_max = "1G"\n[nspawn.exec]\ncapability = ["CAP_BPF"]\n[nspawn.files]\nvolatile = "state"\n'
    one = image(tmp_path, text + '[nspawn.network]\nbridge = "br0"')
    ships, runs = settings.shipped(one), settings.verified(one)
    beside = {"LinkJournal=no", "SuppressSync=yes"}
    assert set(rows(ships.nspawn)) - set(rows(runs.nspawn)) == {"VirtualEthernet=yes", "Bridge=br0"}
    assert set(rows(runs.nspawn)) - set(rows(ships.nspawn)) == beside
    assert runs.service == ships.service
    assert runs.unlike == ("VirtualEthernet=yes, Bridge=br0: verified without a link",)


def test_what_differs_on_the_segment_is_told(tmp_path: Path) -> None:
    assert settings.differences(image(tmp_path)) == ()
    links = '[nspawn.network]\nbridge = "br0"\nmacvlan = ["eth0"]'
    assert settings.differences(image(tmp_path, links)) == (
        "Bridge=br0: on the build's own segment",
        "MACVLAN=eth0: on the build's own segment",
    )
    assert settings.differences(image(tmp_path, "[nspawn.network]\nprivate = false")) == (
        "Private=no: verified without a link",
    )
    assert settings.differences(image(tmp_path, '[service]\nrestart = "always"')) == (
        "Restart=always: it is not started again by itself while it is verified",
    )


def test_what_the_host_has_is_shown_and_never_written_to(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "file"
    data.mkdir(mode=0o750)
    file.touch()
    binds = f'bind = ["{data}:/srv", "{file}", "/no/such"]\nbind_read_only = ["{data}:/ro"]'
    variables = '[nspawn.exec]\nenvironment = { A = "1", B = "2" }\nsystem_call_filter = ["@keyring", "~mincore"]\n'
    runs = settings.verified(image(tmp_path, f"{variables}[nspawn.files]\n{binds}"))
    runs = apart(runs, "web-gs1", tmp_path, tmp_path / "room")
    twice = {'Environment="A=1"', 'Environment="B=2"', "SystemCallFilter=@keyring", "SystemCallFilter=~mincore"}
    assert twice <= set(rows(runs.nspawn))
    over = f"Overlay={data}:{tmp_path}/room/1:/srv"
    assert {over, f"BindReadOnly={file}", f"BindReadOnly={data}:/ro"} <= set(rows(runs.nspawn))
    assert f"Bind={data}:/srv" not in rows(runs.nspawn)
    assert "/no/such" not in runs.nspawn
    assert list(runs.unlike[1:]) == [
        f"Bind={data}:/srv: what is written there is thrown away",
        f"Bind={file}: read-only",
        "Bind=/no/such: there is no /no/such here",
    ]

    assert (tmp_path / "room/1").stat().st_mode == data.stat().st_mode, "what may be written is told by the upper one"


def test_an_overlay_shows_the_hosts_upper_directory_and_never_writes_to_it(tmp_path: Path) -> None:
    runs = settings.verified(image(tmp_path, f'[nspawn.files]\noverlay = ["+/usr:{tmp_path}:/srv"]'))
    assert runs.unlike[1:] == (f"Overlay=+/usr:{tmp_path}:/srv: what is written there is thrown away",)
    runs = apart(runs, "web-gs1", tmp_path, tmp_path / "room")
    assert f"Overlay=+/usr:{tmp_path}:{tmp_path}/room/1:/srv" in rows(runs.nspawn)


def test_a_bind_loses_its_map_and_nothing_else() -> None:
    binds = ["/a", "/idmap:/b", "/a:/b:norbind", "/a:/b:idmap", "/a:/b:idmap,norbind", "/a:/b:norbind,rootidmap"]
    assert [unmapped(one) for one in binds] == [
        "/a", "/idmap:/b", "/a:/b:norbind", "/a:/b", "/a:/b:norbind", "/a:/b:norbind",
    ]  # fmt: skip


def test_what_a_test_place_has_not_is_left_out_and_told(tmp_path: Path) -> None:
    text = '[nspawn.exec]\nlink_journal = "host"\nsuppress_sync = false\n[nspawn.network]\nport = ["tcp:80"]\n'
    runs = settings.verified(image(tmp_path, text + '[service]\nallowed_cpus = "0 8000-8191"\noom_policy = "kill"'))
    assert {"LinkJournal=no", "SuppressSync=no"} <= set(rows(runs.nspawn))
    assert runs.service == (("OOMPolicy", "kill"),)
    assert settings.differences(image(tmp_path, (tmp_path / "web/image.toml").read_text())) == (
        "LinkJournal=host: its journal is thrown away with it",
        "Port=tcp:80: left out, the ports of this host are its own",
        "AllowedCPUs=0 8000-8191: this place has not these processors",
    )


def test_a_machine_that_takes_a_link_of_the_host_waits_for_it_to_come_back(tmp_path: Path) -> None:
    made = dict(settings.files(image(tmp_path, '[nspawn.network]\ninterface = ["eth1"]')))
    assert rows(made["web.conf"])[:2] == ["[Service]", "ExecStartPre=-udevadm settle --timeout=30"]


def test_a_unit_with_a_drop_in_clears_up_after_a_machine_that_was_killed(tmp_path: Path) -> None:
    made = dict(settings.files(image(tmp_path, '[service]\nrestart = "on-failure"')))
    assert [row.partition("=")[0] for row in rows(made["web.conf"])[1:]] == ["Restart", "ExecStopPost"]
    assert "killed" in made["web.conf"]
