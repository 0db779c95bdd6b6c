"""Shares without a virtiofs daemon: copied into the guest by tar over ssh, and writable ones copied home at the end.

Slower than virtiofs, and what a session wrote is outside only after it; files removed inside stay outside.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from pipeline.appliance.link import Link
from pipeline.appliance.share import Share
from pipeline.command import BuildLog
from pipeline.errors import PlaceError

_LIMIT = 1800.0
"""Seconds that copying one share may take."""


def bring(link: Link, shares: Sequence[Share], log: BuildLog) -> None:
    """Copies every share to its path in the guest, then makes the read-only ones so. Raises `PlaceError`."""
    log.line("no virtiofsd here: the shares are copied into the appliance")
    covered: list[Share] = []
    for share in shares:
        # One inside another came along with it.
        if not any(outer.path in share.path.parents for outer in covered):
            pack = ["tar", "--create", "--file=-", "--directory=/", "--", str(share.path).lstrip("/")]
            unpack = link.argv(["tar", "--extract", "--file=-", "--directory=/", "--numeric-owner"])
            _pipe(pack, unpack, f"copying {share.path} into the appliance")
        covered.append(share)
    for share in shares:
        # A bind inherits what the mount around it is, so a writable share in a read-only one has to be told.
        mode = "rw" if share.writable else "ro"
        script = f"mount --bind {_quoted(share)} {_quoted(share)} && mount -o remount,bind,{mode} {_quoted(share)}"
        done = link.script(script, limit=60.0)
        if done.returncode != 0:
            raise PlaceError(f"cannot mount {share.path} in the appliance: {done.stderr.strip()}")


def take_home(link: Link, shares: Sequence[Share], log: BuildLog) -> None:
    """Copies what lies in the writable shares of the guest over what lies outside. Raises `PlaceError`."""
    for share in shares:
        if share.writable:
            log.line(f"copying {share.path} out of the appliance")
            pack = link.argv(["tar", "--create", "--file=-", "--directory=/", "--", str(share.path).lstrip("/")])
            unpack = ["tar", "--extract", "--file=-", "--directory=/", "--no-same-owner", "--overwrite"]
            _pipe(pack, unpack, f"copying {share.path} out of the appliance")


def _pipe(source: list[str], sink: list[str], what: str) -> None:
    with subprocess.Popen(source, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        try:
            second = subprocess.run(sink, stdin=first.stdout, capture_output=True, text=True, timeout=_LIMIT)
        except subprocess.TimeoutExpired as error:
            first.kill()
            raise PlaceError(f"{what} took longer than {_LIMIT:.0f} s") from error
        assert first.stdout is not None and first.stderr is not None
        first.stdout.close()
        said = first.stderr.read().decode(errors="replace") + second.stderr
        first.wait()
    # Status 1 of tar: a file changed while it was read, or a socket was left out.
    if first.returncode not in (0, 1) or second.returncode != 0:
        raise PlaceError(f"{what} failed: {said.strip()}")


def _quoted(share: Share) -> str:
    return "'" + str(share.path).replace("'", "'\\''") + "'"
