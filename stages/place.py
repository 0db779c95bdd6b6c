"""What all stages stand on: the place in which this session builds, the image, and its build."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.build import Build, open_build
from pipeline.image import Image
from pipeline.place import Place, open_place
from pipeline.plugin.options import settings


@pytest.fixture(scope="session")
def place(pytestconfig: pytest.Config) -> Place:
    """The native place of this session (the appliance is one as well); a test that takes it needs ZFS and systemd."""
    chosen = settings(pytestconfig)
    return open_place(chosen.dataset, appliance=chosen.inside)


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> Image:
    """The image in whose folder the test stands."""
    if not isinstance(getattr(request, "param", None), Image):
        raise pytest.UsageError("the fixture `image` is for tests in the folder of an image (with an image.toml)")
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def build(image: Image, place: Place, pytestconfig: pytest.Config) -> Iterator[Build]:
    """The image's build in this run, with its log."""
    chosen = settings(pytestconfig)
    with open_build(image, place, chosen.wishes) as opened:
        chosen.builds[image.name] = opened
        yield opened
