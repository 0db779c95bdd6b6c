"""Ready-made checks of a running machine: what `[checks]` of image.toml can switch on.

Each is a function of a `Subject`, named as its key, and raises `CheckFailed` with a line that tells what to do.
"""

from pipeline.checks import another, running, tree
from pipeline.checks.subject import Subject

__all__ = ["Subject", "another", "running", "tree"]
