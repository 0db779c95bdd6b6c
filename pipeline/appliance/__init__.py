"""The appliance: a small QEMU guest with ZFS and systemd, for machines that have neither.

    with running([Share(repository, writable=False)], log=log) as guest:
        subprocess.run(guest.command(["zpool", "list"]))

Needs no root and no kernel module outside. Built once from Debian packages and kept in the user's cache; started from a
saved state in seconds. What runs inside is its user's matter.
"""

from pipeline.appliance.guest import Guest, running, save_state
from pipeline.appliance.share import Share
from pipeline.appliance.tools import missing_tools

__all__ = ["Guest", "Share", "missing_tools", "running", "save_state"]
