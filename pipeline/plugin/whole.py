"""What an image has: all of its checks and tests, whatever of them a session was told to collect.

`image.toml::snapshot`, a file's name, `--lf` and `--ignore` leave out what then stands in no list of pytest's. But the
collectors that a session asks know what is in them, and those that it does not ask are known to the ones above.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pipeline.image import FILE
from pipeline.plugin.collect import absolute, image_folder


class Whole:
    """Takes note of what each collector in an image's folder finds."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._found: dict[str, list[pytest.Item | pytest.Collector]] = {}
        self._roots: dict[Path, str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """Listens at the collector itself: `--lf` answers for a file, and takes out of what another one finds."""
        if isinstance(collector, pytest.Session) or (folder := _folder(collector)) is None:
            return
        if collector.path == folder:
            self._roots[folder] = collector.nodeid
        collect = collector.collect

        def noted() -> list[pytest.Item | pytest.Collector]:
            found = self._found[collector.nodeid] = list(collect())
            return found

        collector.collect = noted  # type: ignore[method-assign]

    def left_out(self, folder: Path, collected: set[str]) -> list[str]:
        """The node ids of what the image in `folder` has and this session has not `collected`: checks, or whole files.

        What was collected and deselected afterwards is none of it.
        """
        if folder not in self._roots:
            return [FILE]
        return [*self._uncollected(self._roots[folder], folder, collected), *self._ignored(folder)]

    def _uncollected(self, above: str, folder: Path, collected: set[str]) -> Iterator[str]:
        for one in self._found.get(above, ()):
            if isinstance(one, pytest.Item):
                if one.nodeid not in collected:
                    yield one.nodeid
            elif _folder(one) != folder:  # another image's
                continue
            elif one.nodeid in self._found:
                yield from self._uncollected(one.nodeid, folder, collected)
            elif isinstance(one, pytest.Directory):
                yield from (f"{folder.name}/{path.relative_to(folder)}" for path in self._tests(one.path))
            else:
                yield one.nodeid

    def _ignored(self, folder: Path) -> Iterator[str]:
        """The files of tests that `--ignore` and `--ignore-glob` leave out, which no collector hears of."""
        named = [absolute(self._config, one) for one in self._config.getoption("ignore") or ()]
        globs = [str(absolute(self._config, one)) for one in self._config.getoption("ignore_glob") or ()]
        if named or globs:
            for path in self._tests(folder):
                if any(path.is_relative_to(one) for one in named) or any(fnmatch(str(path), one) for one in globs):
                    yield f"{folder.name}/{path.relative_to(folder)}"

    def _tests(self, folder: Path) -> list[Path]:
        patterns = self._config.getini("python_files")
        return [path for path in sorted(folder.rglob("*.py")) if any(fnmatch(path.name, one) for one in patterns)]


def _folder(node: pytest.Collector) -> Path | None:
    """The folder of the image to which a collector belongs: a file's, or that folder itself."""
    return image_folder(node.path / FILE)


def whole(config: pytest.Config) -> Whole:
    """The session's."""
    plugin = config.pluginmanager.get_plugin("goldspawn-whole")
    assert isinstance(plugin, Whole)
    return plugin
