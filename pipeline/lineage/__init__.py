"""The versions of an image: each descends from the one before, so that a host fetches what changed.

    versions   the golden dataset of an image, from one version to the next
    graft      a tree made equal to another by rewriting only what differs
    listings   listings of trees that are known from an earlier version, or from a base
    sending    snapshots and bookmarks, and streams from one to another
    deltas     which deltas go beside a full stream

What a host does with them is the matter of `pipeline.artifact`.
"""
