"""Gentoo's stages: the builder root in which emerge runs, and the sets that are merged into a tree.

    workshop      where packages are merged: what the next two have in common
    builder       a builder root that is ready to be worked in
    host          a host that is a Gentoo itself
    datasets      workshops on ZFS: builder roots entered with systemd-nspawn, or this host
    folders       builder roots in plain folders, entered by chroot: for the machine outside of the appliance
    repositories  the ebuild repositories of a build; syncing: those that emaint syncs, a tree for each commit
    resolved      what a root's own configuration says, as Portage resolves it; sizing: how much is built at once
    merge         what is done in them

What Portage is and how its cycles are opened stands in `pipeline.portage`, which knows nothing of images and datasets.
"""

from pipeline.gentoo.datasets import workshop
from pipeline.gentoo.folders import possible
from pipeline.gentoo.merge import MARK, as_mark, merge_packages, merge_sets, plan, told

__all__ = ["MARK", "as_mark", "merge_packages", "merge_sets", "plan", "possible", "told", "workshop"]
