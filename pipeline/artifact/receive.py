"""What to type on a host: the receive command, RECEIVE.md, SHA256SUMS and the last lines of a run."""

from __future__ import annotations

import shlex
from pathlib import Path

from pipeline.artifact.manifest import Manifest
from pipeline.artifact.room import refused, size

SUMS = "SHA256SUMS"
GUIDE = "RECEIVE.md"
PARENT = "tank/machines"
"""The dataset that the texts name; a reader puts their own there."""


def command(image: str, file: str, parent: str = PARENT) -> str:
    """The exact command that takes the stream `file` in as the machine `image` below the dataset `parent`.

    The options are the host's choice, since a stream of ours sets no property: `zfs recv DATASET < FILE` works as well.
    """
    return (
        f"zfs recv -o acltype=posixacl -o xattr=sa -o mountpoint=/var/lib/machines/{image} "
        f"{parent}/{image} < {shlex.quote(file)}"
    )


def lines(manifest: Manifest, folder: Path) -> list[str]:
    """The last lines of a run: what lies where, and how a host takes it in."""
    image = manifest.image
    return [
        f"{folder}: {manifest.stream.file}, {size(manifest.stream.size)}. On a host, in a copy of that folder:",
        f"  sha256sum -c {SUMS} && {manifest.receive}",
        f"  install -D -m 644 -t /etc/systemd/nspawn {image}.nspawn && machinectl start {image}",
    ]


def sums(manifest: Manifest) -> str:
    """SHA256SUMS, for `sha256sum -c`."""
    return f"{manifest.stream.sha256}  {manifest.stream.file}\n"


def guide(manifest: Manifest) -> str:
    """RECEIVE.md: from a copy of the folder to a shell in the machine."""
    image, file = manifest.image, manifest.stream.file
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

3. Its settings, then start it, now and at every boot:

       install -D -m 644 -t /etc/systemd/nspawn {image}.nspawn
       machinectl start {image}
       machinectl enable {image}

   `machinectl start {image}` is `systemctl start systemd-nspawn@{image}`.

4. A shell in it:

       machinectl shell {image}

machine-id, ssh host keys and the like are made at its first boot, anew on each host. A second machine from the same
stream is a clone: `zfs clone -o mountpoint=/var/lib/machines/{image}-2 {PARENT}/{image}@SNAPSHOT {PARENT}/{image}-2`.
"""


def save(manifest: Manifest, folder: Path) -> None:
    """Writes SHA256SUMS and RECEIVE.md into `folder`. Raises `PlaceError` if that cannot be done."""
    for name, text in ((SUMS, sums(manifest)), (GUIDE, guide(manifest))):
        try:
            (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise refused(folder / name, error) from error
