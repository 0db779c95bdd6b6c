"""Gentoo's stages: the builder root in which emerge runs, and the sets that are merged into a tree.

What Portage is and how its cycles are opened stands in `pipeline.portage`, which knows nothing of images and datasets.
"""

from pipeline.gentoo.builder import building
from pipeline.gentoo.merge import MARK, as_mark, merge_packages, merge_sets, plan

__all__ = ["MARK", "as_mark", "building", "merge_packages", "merge_sets", "plan"]
