"""Build hosts: other machines with ZFS and systemd, reached by ssh, on which images are built for a session here.

`host` is one of them, `freight` what it gets of this machine (our code, the images), `earlier` what it is told of an
artifact that is here, `parcel` what comes back (an artifact, whole and checked). What runs there and how it is told is
pytest-xdist's and the plugin's affair.
"""

from pipeline.hosts.freight import Freight
from pipeline.hosts.host import Host, Ready

__all__ = ["Freight", "Host", "Ready"]
