"""What is not done again: where a build starts, what has been verified, and what of the cache is kept.

    digest      digests of files, remembered for large ones
    inputs      what each stage reads, and the hash of that
    world       what packages came from, and whether it has moved
    plan        the stage after which a build starts, and why not a later one
    verified    what a candidate has passed
    prune       what of the cache goes
    marks       facts as the text of a snapshot's user property

Decided from listings and files alone; `pipeline.workspace` and `pipeline.cache` act. ZFS is the one store.
"""
