"""What stands below /etc/portage: the image's own folder, and what image.toml says, in either form of portage(5)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.portage.configuration import ETC, Configuration, Repository, write

CONFIGURATION = Configuration(
    "tiny:default",
    variables={"USE": "-X"},
    packages={"use": ["app-misc/hello nls"]},
    repositories=[Repository("tiny")],
    main="tiny",
)


def written(path: Path) -> str:
    """What Portage reads at a path: a file, or all files of a directory in their order."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return "".join(file.read_text() for file in files)


@pytest.mark.parametrize("form", ["file", "directory", "nothing"])
@pytest.mark.parametrize(
    ("name", "own", "ours"),
    [
        ("make.conf", 'USE="X"\nCFLAGS="-O3"\n', 'USE="-X"\n'),
        ("package.use", "app-misc/hello -nls\n", "app-misc/hello nls\n"),
        ("repos.conf", "[other]\nlocation = /srv/other\n", "location = /var/db/repos/tiny\n"),
    ],
)
def test_what_the_folder_has_is_kept_and_image_toml_has_the_last_word(
    name: str, own: str, ours: str, form: str, tmp_path: Path
) -> None:
    folder, tree = tmp_path / "portage", tmp_path / "tree"
    folder.mkdir()
    if form == "file":
        (folder / name).write_text(own)
    elif form == "directory":
        (folder / name).mkdir()
        (folder / name / "mine").write_text(own)
    write(CONFIGURATION, tree, folder)
    text = written(tree / ETC / name)
    assert ours in text
    if form == "file":
        assert text.index(own) < text.index(ours)
    elif form == "directory":
        assert (tree / ETC / name / "mine").read_text() == own
    assert [path for path in (tree / ETC).iterdir() if path.name.startswith(".")] == []


def test_the_profile_of_image_toml_takes_the_place_of_the_folders(tmp_path: Path) -> None:
    folder = tmp_path / "portage"
    folder.mkdir()
    (folder / "make.profile").symlink_to("/elsewhere")
    write(CONFIGURATION, tmp_path / "tree", folder)
    assert str((tmp_path / "tree" / ETC / "make.profile").readlink()) == "/var/db/repos/tiny/profiles/default"


def test_a_profile_that_is_a_directory_of_the_folder_is_refused(tmp_path: Path) -> None:
    """portage(5) allows it; but image.toml says which profile it is."""
    folder = tmp_path / "portage"
    (folder / "make.profile").mkdir(parents=True)
    (folder / "make.profile/parent").write_text("tiny:base\n")
    with pytest.raises(InputError, match=r"portage/make\.profile: a directory; .* bootstrap\.profile of image\.toml"):
        write(CONFIGURATION, tmp_path / "tree", folder)
    assert not (tmp_path / "tree").exists()
