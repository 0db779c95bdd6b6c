"""What to type on a host: the receive command, RECEIVE.md, SHA256SUMS and the last lines of a run."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from pipeline.artifact.index import Index, Stream
from pipeline.artifact.manifest import Delta, Manifest
from pipeline.artifact.room import refused, size

SUMS = "SHA256SUMS"
GUIDE = "RECEIVE.md"
PARENT = "tank/machines"
"""The dataset that the texts name; a reader puts their own there."""


def command(image: str, file: str, parent: str = PARENT) -> str:
    """The exact command that takes the stream `file` in as the machine `image` below the dataset `parent`.

    The options are the host's choice, since a stream of ours sets no property: `zfs recv DATASET < FILE` works as well.
    """
    return f"zfs recv {_options(image)} {parent}/{image} < {shlex.quote(file)}"


def onward(image: str, file: str, parent: str = PARENT) -> str:
    """The exact command that takes a delta from the previous version in, onto a copy of that which has not run."""
    return f"zfs recv {parent}/{image} < {shlex.quote(file)}"


def beside(image: str, file: str, previous: str, version: str, parent: str = PARENT) -> str:
    """The exact command that takes a delta from the version `previous` in as a clone beside a machine that has run."""
    name = f"{image}-{version}"
    return f"zfs recv -o origin={parent}/{image}@{previous} {_options(name)} {parent}/{name} < {shlex.quote(file)}"


def _options(machine: str) -> str:
    return f"-o acltype=posixacl -o xattr=sa -o mountpoint=/var/lib/machines/{machine}"


def lines(manifest: Manifest, folder: Path) -> list[str]:
    """The last lines of a run: what lies where, and how a host takes it in."""
    image = manifest.image
    told = [
        f"{folder}: {manifest.stream.file}, {size(manifest.stream.size)}. On a host, in a copy of that folder:",
        f"  sha256sum -c {SUMS} && {manifest.receive}",
        f"  {' && '.join([*install(manifest), f'machinectl start {image}'])}",
    ]
    if files := credentials(manifest):
        told.insert(-1, f"  its secrets go to {', '.join(files)} (mode 0600), and nothing that is sent holds them")
    for delta in manifest.deltas:
        told.append(f"{delta.file}, {size(delta.size)}. On a host that has {_having(delta)}:")
        told.append(f"  sha256sum -c --ignore-missing {SUMS} && {delta.receive}")
    return told


def install(manifest: Manifest) -> list[str]:
    """The commands that put the machine's settings where systemd looks for them, typed in the artifact's folder."""
    image, settings = manifest.image, manifest.settings
    commands = [f"install -D -m 644 -t /etc/systemd/nspawn {image}.nspawn"]
    if settings is not None and settings.drop_in is not None:
        where = f"/etc/systemd/system/systemd-nspawn@{image}.service.d/goldspawn.conf"
        commands += [f"install -D -m 644 {settings.drop_in} {where}", "systemctl daemon-reload"]
    return commands


def credentials(manifest: Manifest) -> list[str]:
    """Where the host has the machine's secrets, which nothing that is sent holds."""
    return [f"/etc/credstore/{file}" for file in manifest.settings.credentials] if manifest.settings else []


def _having(delta: Delta) -> str:
    return f"{delta.origin.image} {delta.origin.version}"


def sums(streams: Iterable[Stream]) -> str:
    """SHA256SUMS, for `sha256sum -c`: a line a stream."""
    return "".join(f"{stream.sha256}  {stream.file}\n" for stream in streams)


def guide(manifest: Manifest) -> str:
    """RECEIVE.md: from a copy of the folder to a shell in the machine."""
    image, file = manifest.image, manifest.stream.file
    installing = "\n       ".join(install(manifest))
    secrets = "".join(f"\n       install -D -m 600 YOUR_SECRET {file}" for file in credentials(manifest))
    needed = ", ".join(f"`{name}`" for name in manifest.stream.features) or "none"
    return f"""\
# {image} {manifest.version}

A machine for systemd-nspawn as a ZFS stream ({size(manifest.stream.size)}), which has passed the checks
that manifest.json lists ({len(manifest.checks)}).
Type this as root on a host with ZFS, in a copy of this folder. `{PARENT}` stands for a dataset of yours.

1. Is the copy complete?

       sha256sum -c {SUMS}

2. Receive it:

       {manifest.receive}

   - `acltype=posixacl`: the tree has POSIX ACLs (the journal's directories), which show only with it;
   - `xattr=sa`: extended attributes, capabilities among them, lie beside the inode, which is faster;
   - `mountpoint=…`: where systemd-nspawn and machinectl look for machines.

   The stream sets no property itself: `zfs recv {PARENT}/{image} < {file}` works too, with the settings
   that `{PARENT}` passes on. The pool needs these features: {needed}.
   `zpool get all POOL | grep feature@` shows what it has.

3. Its settings{" and secrets (no stream holds these)" if secrets else ""}, then start it, now and at every boot:

       {installing}{secrets}
       machinectl start {image}
       machinectl enable {image}

   `machinectl start {image}` is `systemctl start systemd-nspawn@{image}`.

4. A shell in it:

       machinectl shell {image}

machine-id, ssh host keys and the like are made at its first boot, anew on each host. A second machine from the same
stream is a clone: `zfs clone -o mountpoint=/var/lib/machines/{image}-2 {PARENT}/{image}@SNAPSHOT {PARENT}/{image}-2`.
{_encrypted(manifest)}{_deltas(manifest)}"""


def _encrypted(manifest: Manifest) -> str:
    if "encryption" not in manifest.stream.features:
        return ""
    return f"""
## The key

The streams are encrypted, as the dataset was that they come from, and are received without its key. To mount what was
received: `zfs load-key {PARENT}/{manifest.image} && zfs mount {PARENT}/{manifest.image}`.
"""


def _deltas(manifest: Manifest) -> str:
    if not manifest.deltas:
        return ""
    parts = ["\n## For hosts that have an earlier version\n"]
    for delta in manifest.deltas:
        parts.append(f"\n`{delta.file}` ({size(delta.size)}) is for a host that has {_having(delta)}.")
        parts.append(f" The snapshot's guid there is {delta.origin.guid}:\n")
        parts.append(f"\n    sha256sum -c --ignore-missing {SUMS}\n    {delta.receive}\n")
        if delta.beside is not None:
            parts.append(
                "\nZFS refuses that where the machine has run since: its dataset has changed. Take the delta in\n"
                f"beside it, as another machine; nothing of the first is lost:\n\n    {delta.beside}\n"
            )
    parts.append("\nindex.json lists the steps between earlier versions, as far as they are kept.\n")
    return "".join(parts)


def save(manifest: Manifest, index: Index, folder: Path) -> None:
    """Writes SHA256SUMS and RECEIVE.md into `folder`. Raises `PlaceError` if that cannot be done."""
    for name, text in ((SUMS, sums(index.streams)), (GUIDE, guide(manifest))):
        try:
            (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise refused(folder / name, error) from error
