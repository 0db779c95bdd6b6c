"""A network segment of a build's own: a bridge, a router that gives out addresses and names, and peers.

Nothing of it is known to the host's own network: the bridge has no address, and router and peers are network
namespaces. Knows nothing of images, ZFS or machines.
"""

from pipeline.network.peer import another, peer
from pipeline.network.segment import Segment, segment

__all__ = ["Segment", "another", "peer", "segment"]
