"""Images: what `image.toml` says, as one tree of frozen dataclasses, read and validated as a whole.

An image is a folder: `image.toml`, `root/` (files for its root file system), `test_*.py` (its acceptance tests). The
folder's name is the image's name.

`definition` holds the tree, `values` the rules of single values, `reading` what becomes of a file, `problems` how
its mistakes are told, `document` the JSON schema and the reference page. Knows how root file systems can be made
(`pipeline.bootstrap`), and nothing of datasets or machines.
"""

from __future__ import annotations

from pipeline.image.boot import Boot
from pipeline.image.checks import Checks
from pipeline.image.definition import Artifact, Group, Image, Profile, User, as_data
from pipeline.image.reading import FILE, check_name, load

__all__ = ["FILE", "Artifact", "Boot", "Checks", "Group", "Image", "Profile", "User", "as_data", "check_name", "load"]
