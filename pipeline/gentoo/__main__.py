"""`python -m pipeline.gentoo`: the process that merges in folders; started by `folders.make_merged`."""

from __future__ import annotations

import sys

from pipeline.gentoo.folders import work_here

sys.exit(work_here(*sys.argv[1:]))
