"""From a golden snapshot to files that a host can trust.

Knows trees (directories), streams (bytes that somebody sends) and folders; nothing of pytest, stages or image.toml.

    walk      one pass over a file tree: its entries
    tree      the digest of a file tree, and how two trees differ
    packages  what is installed in a tree, by its package database
    stream    a ZFS stream on its way into a file: digest and size in one pass; what its header says
    manifest  what a build has to say about its artifact: manifest.json
    index     all streams of an image that lie in its folder: index.json
    receive   what to type on a host
    folder    a folder that appears whole or not at all
    shelf     what stays in it when a new version comes: earlier deltas
    verify    checking an artifact before anybody receives it: `python -m pipeline.artifact check artifacts/web1`
    choose    which streams a host should fetch: `python -m pipeline.artifact choose artifacts/web1 tank/machines`
"""
