"""Collection: an image.toml is collected as the pipeline, its stages in order around the image's own tests."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipeline.build import LAST_CHECKS
from pipeline.errors import GoldspawnError, InputError
from pipeline.image import FILE, Checks, Image, as_data, load
from pipeline.plugin.options import settings

_CHECKS = "stages.checks"
_READY = "check_"
"""How the name of a ready-made check begins, before its key in `[checks]`."""

_READ = pytest.StashKey[dict[Path, Image]]()

_TOLD = pytest.StashKey[set[Path]]()
"""The folders of images whose mistakes have been told: each is told once, whatever is collected of it."""


class ImageFile(pytest.Module):
    """An image.toml as a module of checks: `tests/images/x/image.toml::boot`."""

    def _getobj(self) -> ModuleType:
        return importlib.import_module(_CHECKS)

    def funcnamefilter(self, name: str) -> bool:
        return True

    def istestfunction(self, obj: object, name: str) -> bool:
        return callable(obj) and getattr(obj, "__module__", "") == _CHECKS

    def istestclass(self, obj: object, name: str) -> bool:
        return False

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            image = image_in(self.path.parent, self.config)
        except GoldspawnError as error:
            self.config.stash.setdefault(_TOLD, set()).add(self.path.parent)
            raise self.CollectError(str(error)) from error
        left_out = {f"{_READY}{key}" for key in as_data(Checks()) if key not in image.checks.chosen}
        return [one for one in super().collect() if one.name not in left_out]


class ImagesMixin:
    """The hooks of collection; part of the plugin that is registered once for a session."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        folders = settings(config).images
        lost = [folder for folder in folders if not folder.is_dir()]
        if lost:
            raise pytest.UsageError("\n".join(f"--images {folder}: there is no such directory" for folder in lost))
        if folders:
            given = config.args if config.args_source is config.ArgsSource.ARGS else []
            config.args = [*given, *map(str, folders)]

    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> bool | None:
        """With `--image`, nothing else is looked at: to import all tests takes longer than to find one image."""
        if not settings(config).names:
            return None
        path = collection_path
        return None if any(path.is_relative_to(one) or one.is_relative_to(path) for one in _named(config)) else True

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        if file_path.name != FILE:
            return None
        names = settings(parent.config).names
        if names and file_path.parent.name not in names:
            return None
        return ImageFile.from_parent(parent, path=file_path)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        folder = image_folder(Path(metafunc.definition.path))
        if folder is None or "image" not in metafunc.fixturenames:
            return
        try:
            image = image_in(folder, metafunc.config)
        except GoldspawnError as error:
            told = metafunc.config.stash.setdefault(_TOLD, set())
            if folder not in told:
                told.add(folder)
                raise pytest.Collector.CollectError(str(error)) from error
            metafunc.parametrize("image", [], indirect=True, scope="session")
            return
        metafunc.parametrize("image", [image], indirect=True, ids=[pytest.HIDDEN_PARAM], scope="session")

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> Iterator[None]:
        self._one_folder_a_name(items)
        for item in items:
            if (name := image_name(item)) is not None:
                item.extra_keyword_matches.add(name)
        self._keep_named(config, items)
        yield
        items.sort(key=_order(items))

    @staticmethod
    def _one_folder_a_name(items: list[pytest.Item]) -> None:
        folders: dict[str, Path] = {}
        for item in items:
            folder = image_folder(item.path)
            if folder is not None and folders.setdefault(folder.name, folder) != folder:
                raise pytest.UsageError(
                    f'two images are called "{folder.name}": {folders[folder.name] / FILE} and {folder / FILE}'
                )

    @staticmethod
    def _keep_named(config: pytest.Config, items: list[pytest.Item]) -> None:
        names = settings(config).names
        if not names:
            return
        here = all_images(config)
        if lost := [name for name in names if name not in here]:
            known = ", ".join(sorted(here)) or "none"
            raise pytest.UsageError(f"--image {lost[0]}: there is no such image; the images here are: {known}")
        dropped = [item for item in items if image_name(item) not in names]
        if dropped:
            config.hook.pytest_deselected(items=dropped)
            items[:] = [item for item in items if image_name(item) in names]


def image_folder(path: Path) -> Path | None:
    """The folder of the image to which a file belongs, None for a file of none."""
    return _image_folder(path.parent)


@lru_cache
def _image_folder(folder: Path) -> Path | None:
    for candidate in (folder, *folder.parents):
        if (candidate / FILE).is_file():
            return candidate
    return None


def image_name(item: pytest.Item) -> str | None:
    """The name of the image that an item checks, None for a test of no image."""
    folder = image_folder(item.path)
    return None if folder is None else folder.name


def image_in(folder: Path, config: pytest.Config) -> Image:
    """The image in a folder, read once in a session. Raises `InputError`."""
    known = config.stash.setdefault(_READ, {})
    if folder not in known:
        known[folder] = load(folder, settings(config).images)
    return known[folder]


def image_of(item: pytest.Item) -> Image | None:
    folder = image_folder(item.path)
    return None if folder is None else image_in(folder, item.config)


def is_stage(item: pytest.Item) -> bool:
    """Whether an item is one of the pipeline's own checks (not one of the image's tests)."""
    return isinstance(item.parent, ImageFile)


def needs_place(item: pytest.Item) -> bool:
    """Whether an item needs ZFS and systemd: everything of an image, and every test that takes the fixture `place`."""
    return image_name(item) is not None or "place" in getattr(item, "fixturenames", ())


def all_images(config: pytest.Config) -> dict[str, Path]:
    """The images below the folders that this session collects: name and folder."""
    found: dict[str, Path] = {}
    for folder in _image_folders(config):
        found.setdefault(folder.name, folder)
    return found


def _image_folders(config: pytest.Config) -> Iterator[Path]:
    for argument in config.args:
        base = absolute(config, argument)
        if base.is_file() and (folder := image_folder(base)) is not None:
            yield folder
        for file in sorted(base.rglob(FILE)):
            yield file.parent


def absolute(config: pytest.Config, argument: str) -> Path:
    """The file or folder of an argument of the command line, as pytest writes it: without `..`, links as they are."""
    return Path(os.path.abspath(config.invocation_params.dir / str(argument).split("::", 1)[0]))  # noqa: PTH100


_NAMED = pytest.StashKey[list[Path]]()


def _named(config: pytest.Config) -> list[Path]:
    """The folders of the images that `--image` names."""
    if _NAMED not in config.stash:
        names = settings(config).names
        config.stash[_NAMED] = [folder for folder in _image_folders(config) if folder.name in names]
    return config.stash[_NAMED]


def _order(items: list[pytest.Item]) -> Any:
    """A sort key that keeps pytest's order, but for an image's own tests, which come before the last checks, and for
    bases, which come before what stands on them.
    """
    position = {id(item): index for index, item in enumerate(items)}
    first: dict[str | None, pytest.Item] = {}
    for item in items:
        first.setdefault(image_name(item), item)
    chains = {name: _chain(item) for name, item in first.items() if name is not None}
    begins = {name: position[id(item)] for name, item in first.items() if name is not None}
    for name, chain in chains.items():
        for base in chain:
            if base in begins:
                begins[base] = min(begins[base], position[id(first[name])])

    def key(item: pytest.Item) -> tuple[int, int, int, int]:
        name = image_name(item)
        if name is None:
            return position[id(item)], 0, 0, 0
        phase = 1 if not is_stage(item) else 2 if item.name in LAST_CHECKS else 0
        return begins[name], len(chains[name]), phase, position[id(item)]

    return key


def _chain(item: pytest.Item) -> list[str]:
    """The names of the images on which an item's image stands; none for one whose definition is wrong."""
    with contextlib.suppress(InputError):
        image = image_of(item)
        return [base.name for base in image.chain[1:]] if image is not None else []
    return []
