"""pytest-xdist's part: which tests go to one worker together."""

from __future__ import annotations

from pathlib import Path

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped,unused-ignore]

from pipeline.plugin.collect import image_folder


class ImageScheduling(LoadScopeScheduling):  # type: ignore[misc,unused-ignore]
    """Everything of an image is one scope, and so is a test module; a worker takes a scope as a whole."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        folder = image_folder(Path(self.config.rootpath) / file)
        return str(folder) if folder is not None else file
