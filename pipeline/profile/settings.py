"""Host name, locale, time zone and units: files and links in the tree; nothing runs inside."""

from __future__ import annotations

from pathlib import Path

from pipeline.command import BuildLog, output
from pipeline.errors import CommandFailed, GoldspawnError
from pipeline.image import Profile

PRESET = "etc/systemd/system-preset/00-goldspawn.preset"


def hostname(tree: Path, name: str) -> None:
    """Sets the static host name (hostname(5)), and its line in /etc/hosts."""
    (tree / "etc/hostname").write_text(f"{name}\n")
    hosts = tree / "etc/hosts"
    known = hosts.read_text().splitlines() if hosts.exists() else ["127.0.0.1 localhost", "::1 localhost"]
    kept = [line for line in known if not line.startswith("127.0.1.1")]
    hosts.write_text("\n".join([*kept, f"127.0.1.1 {name}"]) + "\n")


def locale(tree: Path, name: str) -> None:
    """Sets LANG (locale.conf(5)); Debian reads /etc/default/locale, which trixie links to it."""
    _write(tree / "etc/locale.conf", f"LANG={name}\n")
    default = tree / "etc/default/locale"
    if default.exists() and not default.is_symlink():
        default.write_text(f"LANG={name}\n")


def no_questions(tree: Path) -> None:
    """Masks what would wait for an answer at the console of each machine's first boot (systemd-firstboot(1))."""
    if (tree / "usr/lib/systemd/system/systemd-firstboot.service").exists():
        mask = tree / "etc/systemd/system/systemd-firstboot.service"
        mask.parent.mkdir(parents=True, exist_ok=True)
        mask.unlink(missing_ok=True)
        mask.symlink_to("/dev/null")


def timezone(tree: Path, name: str) -> None:
    """Sets the time zone (localtime(5)). Raises `GoldspawnError` if the tree has no data for it."""
    zone = tree / "usr/share/zoneinfo" / name
    if not zone.exists() and name not in ("UTC", "Etc/UTC"):
        raise GoldspawnError(
            f'profile.timezone = "{name}": the tree has no such time zone', hint='add "tzdata" to profile.packages'
        )
    link = tree / "etc/localtime"
    link.unlink(missing_ok=True)
    link.symlink_to(f"/usr/share/zoneinfo/{name}")
    (tree / "etc/timezone").unlink(missing_ok=True)


def units(tree: Path, profile: Profile, *, log: BuildLog) -> None:
    """Enables, disables and masks units, and keeps that through the machine's first boot.

    A machine with an unset machine-id applies presets when it first boots (machine-id(5)), and Debian's enable
    everything: so a preset of ours says that what is enabled in the tree stays the only thing that is.
    """
    for verb in ("enable", "disable", "mask"):
        names = getattr(profile, verb)
        if names:
            try:
                output(["systemctl", f"--root={tree}", verb, *names], log=log)
            except CommandFailed as error:
                error.hint = f"profile.{verb} of image.toml names a unit that the tree does not have"
                raise
    lines = ["# By goldspawn: a first boot enables nothing that was not enabled when the image was sealed."]
    lines += [f"enable {name}" for name in profile.enable] + [f"disable {name}" for name in profile.disable]
    _write(tree / PRESET, "\n".join([*lines, "disable *"]) + "\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
