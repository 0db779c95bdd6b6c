"""Checks that look at the machine as it runs, from outside and from inside."""

from __future__ import annotations

import json
import re

from pipeline.checks.subject import Subject
from pipeline.command import output
from pipeline.errors import CheckFailed
from pipeline.image.values import in_bytes
from pipeline.machine import timing
from pipeline.machine.unit import leader


def journal(subject: Subject) -> None:
    """The journal has no errors but those that may be there."""
    argv = ["journalctl", "-M", subject.machine.name, "--quiet", "--no-pager", "--priority=err", "--output=json"]
    told = [json.loads(line) for line in output(argv, timeout=subject.limit(60)).stdout.splitlines()]
    allowed = [re.compile(one) for one in subject.wanted.journal_allow]
    lines = [f"{one.get('SYSLOG_IDENTIFIER', '?')}: {one.get('MESSAGE', '')}" for one in told]
    if left := [line for line in lines if not any(one.search(line) for one in allowed)]:
        raise CheckFailed(
            "\n".join(["the journal has errors:", *(f"    {line}" for line in left[:20])]),
            hint="what may be there is named by a regular expression in checks.journal_allow of image.toml",
        )


def boot_seconds(subject: Subject) -> None:
    """It boots in time; else the units are named that it waited for."""
    wanted = subject.wanted.boot_seconds
    assert wanted is not None
    if (took := timing.boot_seconds(subject.machine)) > subject.limit(wanted):
        raise CheckFailed(
            "\n".join([f"it booted in {took:.1f} s, and {subject.limit(wanted):.1f} s are allowed here; it waited for:",
                       *(f"    {line}" for line in timing.critical_chain(subject.machine))]),
            hint="checks.boot_seconds of image.toml is the limit on a native host",
        )  # fmt: skip


def listen(subject: Subject) -> None:
    """Just the ports that are named are open to others."""
    own = ["nsenter", f"--target={leader(subject.machine.name)}", "--net"]
    argv = [*own, "ss", "--no-header", "--listening", "--numeric", "--processes"]
    found: dict[str, str] = {}
    for kind in ("tcp", "udp"):
        for line in output([*argv, f"--{kind}"]).stdout.splitlines():
            address, _, port = line.split()[3].rpartition(":")
            by = re.search(r'\(\("([^"]+)"', line)
            # DHCP's and DHCPv6's clients hear the answers at these.
            ours = kind == "udp" and port in ("68", "546")
            if not ours and not address.strip("[]").startswith(("127.", "::1")):
                found[f"{kind}/{port}"] = by[1] if by else "?"
    wanted = set(subject.wanted.listen or ())
    lines = [f"{one} is open ({found[one]})" for one in sorted(found.keys() - wanted)]
    lines += [f"{one} is not open" for one in sorted(wanted - found.keys())]
    if lines:
        raise CheckFailed("; ".join(lines), hint="checks.listen of image.toml names the ports that are to be open")


def setuid(subject: Subject) -> None:
    """Just the files that are named are setuid or setgid."""
    _just("setuid or setgid", "find / -xdev -type f -perm /6000", subject.wanted.setuid or (), "checks.setuid", subject)


def world_writable(subject: Subject) -> None:
    """Nothing can be written by everybody but what is named."""
    search = r"find / -xdev \( -type f -o -type d ! -perm -1000 \) -perm -0002"
    found = set(subject.host.check_output(search).split("\n")) - {""}
    if left := sorted(found - set(subject.wanted.world_writable or ())):
        raise CheckFailed(
            f"everybody can write {_few(left)}",
            hint="take the right away (chmod o-w), or name it in checks.world_writable of image.toml",
        )


def _just(what: str, search: str, wanted: tuple[str, ...], key: str, subject: Subject) -> None:
    found = set(subject.host.check_output(search).split("\n")) - {""}
    lines = [f"{what}, and not named: {_few(more)}"] if (more := sorted(found - set(wanted))) else []
    lines += [f"named, and not {what}: {_few(less)}"] if (less := sorted(set(wanted) - found)) else []
    if lines:
        raise CheckFailed("\n".join(lines), hint=f"{key} of image.toml names those that may be there")


def _few(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def passwords(subject: Subject) -> None:
    """No account has an empty password."""
    rows = [line.split(":") for line in subject.host.check_output("cat /etc/shadow /etc/passwd").splitlines()]
    if empty := sorted({row[0] for row in rows if len(row) > 1 and row[1] == ""}):
        raise CheckFailed(
            f"without a password: {', '.join(empty)}", hint='lock it: password = "locked" in profile.users'
        )


def identity(subject: Subject) -> None:
    """Time zone, locale and host name are those of the profile; the time zone, unless it is the host's."""
    profile = subject.image.profile
    zone = subject.host.check_output("readlink /etc/localtime || echo Etc/UTC").partition("zoneinfo/")[2] or "Etc/UTC"
    said = subject.host.check_output("cat /etc/locale.conf /etc/default/locale 2> /dev/null || true")
    lang = re.search(r'^LANG="?([^"\n]+)', said, re.M)
    name = subject.host.check_output("cat /proc/sys/kernel/hostname")
    rows = [
        *([("time zone", zone, profile.timezone)] if subject.image.nspawn.exec.timezone == "off" else []),
        ("locale", lang[1] if lang else "not set", profile.locale),
        ("host name", name, profile.hostname or subject.image.name),
    ]
    if wrong := [
        f"{what} is {found}, and the profile says {wanted}" for what, found, wanted in rows if found != wanted
    ]:
        raise CheckFailed("\n".join(wrong), hint="does something in root/ or profile.run set it otherwise?")


def size_max(subject: Subject) -> None:
    """Its file system is not larger than that."""
    wanted = subject.wanted.size_max
    assert wanted is not None
    limit = in_bytes(wanted)
    if subject.size > limit:
        raise CheckFailed(
            f"its files are {subject.size / 1e6:.0f} MB, and {limit / 1e6:.0f} MB are allowed",
            hint="checks.size_max of image.toml is the limit; du -xh -d2 / in the machine shows what is large",
        )


def exposure(subject: Subject) -> None:
    """Units are not more exposed than that: those that are named, and with "*" all others."""
    listed = json.loads(subject.host.check_output("systemd-analyze security --no-pager --json=short"))
    found = {one["unit"]: float(one["exposure"]) for one in listed}
    named = dict(subject.wanted.exposure)
    others = named.pop("*", None)
    lines = []
    for unit, most in ((dict.fromkeys(found, others) if others is not None else {}) | named).items():
        if unit not in found:
            lines.append(f"{unit} is not running, so nothing is known of it")
        elif found[unit] > most:
            lines.append(f"{unit}: exposure {found[unit]}, and {most} is allowed")
    if lines:
        raise CheckFailed("\n".join(lines), hint="systemd-analyze security UNIT in the machine says what would help")
