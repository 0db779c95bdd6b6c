"""image.toml as its author meets it: what is accepted, and what each mistake is told as."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.errors import InputError
from pipeline.image import Image, as_data, check_name, load
from pipeline.image.document import DOCS, EXAMPLE, documents, schema

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0l7mZ1vGm6Yk0x6Xcl0m9v1cX0 me"


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "image.toml").write_text(text)
    return folder


def read(tmp_path: Path, text: str) -> Image:
    return load(write(tmp_path / "some", text))


def mistakes(folder: Path) -> list[str]:
    """The lines of the error that a folder's image.toml causes, without the file's name."""
    with pytest.raises(InputError) as caught:
        load(folder)
    prefix = f"{folder}/image.toml: "
    lines = str(caught.value).splitlines()
    assert all(line.startswith(prefix) for line in lines), lines
    return [line.removeprefix(prefix) for line in lines]


def test_an_empty_file_is_an_image_with_all_defaults(tmp_path: Path) -> None:
    image = read(tmp_path, "")
    assert (image.name, image.root, image.tests) == ("some", None, [])
    assert as_data(image.bootstrap) == {
        "method": "mmdebstrap", "suite": "stable", "variant": "minbase", "mirror": None, "components": ["main"],
        "repositories": [], "packages": [],
    }  # fmt: skip
    assert (image.profile.locale, image.profile.timezone) == ("C.UTF-8", "Etc/UTC")
    assert (image.boot.private_users, image.boot.timeout, image.artifact.compression) == (True, 60, "zstd")


def test_the_example_of_the_reference_page_is_read_whole(tmp_path: Path) -> None:
    write(tmp_path / "some", EXAMPLE)
    (tmp_path / "some/keys").mkdir()
    (tmp_path / "some/keys/example.asc").touch()
    image = load(tmp_path / "some")
    assert image.profile.users[0].groups == ("site", "www-data")
    assert image.boot.memory_max == "512M"
    assert image.key_files == [tmp_path / "some/keys/example.asc"]


def test_root_and_tests_are_found_beside_image_toml(tmp_path: Path) -> None:
    folder = write(tmp_path / "some", "")
    (folder / "root").mkdir()
    for name in ("test_b.py", "test_a.py", "helper.py"):
        (folder / name).touch()
    image = load(folder)
    assert image.root == folder / "root"
    assert [path.name for path in image.tests] == ["test_a.py", "test_b.py"]


def test_data_of_equal_files_is_equal_and_fit_for_json(tmp_path: Path) -> None:
    one = read(tmp_path, 'boot = {nofile = 9}\n[bootstrap]\nsuite = "stable"')
    other = read(tmp_path, "[bootstrap]\n[boot]\nnofile = 9")
    assert one == other
    assert json.dumps(as_data(one.boot)) == json.dumps(as_data(other.boot))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[profile]\npakages = ["x"]', 'profile.pakages: unknown key; did you mean "packages"?'),
        ('packages = ["x"]', 'packages: unknown key; did you mean "profile.packages"?'),
        ("[artifact]\nzzz = 1", "artifact.zzz: unknown key; known here: compression, deltas, keep"),
        (
            '[[profile.users]]\nname = "a"\nshel = "/bin/sh"',
            'profile.users[0].shel: unknown key; did you mean "shell"?',
        ),
        (
            '[[bootstrap.repositories]]\nuri = "https://x.example"\nsuit = "x"\nsuite = "x"',
            'bootstrap.repositories[0].suit: unknown key; did you mean "suite"?',
        ),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(text: str, line: str, tmp_path: Path) -> None:
    assert mistakes(write(tmp_path / "some", text)) == [line]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("description = 3", "description: expected a string, got 3 (integer)"),
        ("boot = 3", "boot: expected a table, got 3 (integer)"),
        ("bootstrap = []", "bootstrap: expected a table, got a list"),
        ("[bootstrap]\nmethod = 3", "bootstrap.method: expected a string, got 3 (integer)"),
        ('[profile]\npackages = "x"', 'profile.packages: expected a list, got "x"'),
        ("[profile]\npackages = [2026-01-01]", "profile.packages[0]: expected a string, got 2026-01-01 (date)"),
        ("[profile]\nusers = [1]", "profile.users[0]: expected a table, got 1 (integer)"),
        ("[[profile.users]]\nuid = 5", "profile.users[0].name: missing"),
        ("[boot]\nmemory_max = 12.5", 'boot.memory_max: expected a size such as "512M", got 12.5 (float)'),
        ("[boot]\nmemory_max = true", 'boot.memory_max: expected a size such as "512M", got true (boolean)'),
        ("[boot]\ntasks_max = true", "boot.tasks_max: expected a whole number, got true (boolean)"),
        ("[boot]\ntasks_max = 1.0", "boot.tasks_max: expected a whole number, got 1.0 (float)"),
        ("[nspawn.exec]\nnotify_ready = 1", "nspawn.exec.notify_ready: expected true or false, got 1 (integer)"),
        ('[boot]\ntimeout = "60"', 'boot.timeout: expected a number, got "60"'),
    ],
)
def test_a_wrong_type_is_named_with_the_right_one(text: str, line: str, tmp_path: Path) -> None:
    assert mistakes(write(tmp_path / "some", text)) == [line]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ('[bootstrap]\nmethod = "debotstrap"', 'bootstrap.method: unknown method "debotstrap"; did you mean'),
        (
            '[bootstrap]\nmethod = "zzz"',
            'bootstrap.method: unknown method "zzz"; known here: debootstrap, gentoo, mmdebstrap, tarball',
        ),
        ('[bootstrap]\nsuite = "a b"', 'bootstrap.suite: expected a suite such as "stable", got "a b"'),
        ('[bootstrap]\nvariant = "tiny"', 'bootstrap.variant: expected "minbase", "buildd" or "standard"'),
        ('[bootstrap]\nmirror = "example.org"', "bootstrap.mirror: expected a URI"),
        ("[bootstrap]\ncomponents = []", "bootstrap.components: expected at least 1 entry, got none"),
        ('[bootstrap]\npackages = ["a b"]', "bootstrap.packages[0]: expected the name of a package"),
        ('[bootstrap]\npackages = ["--yes"]', "bootstrap.packages[0]: expected the name of a package"),
        ('[profile]\npackages = ["vim", "vim"]', 'profile.packages: package "vim" stands there twice'),
        ('[profile]\nenable = ["nginx"]', "profile.enable[0]: expected the name of a unit with its type"),
        ('[profile]\nenable = ["a.service"]\nmask = ["a.service"]', 'profile: "a.service" stands in both enable and '),
        ('[profile]\nhostname = "-x"', "profile.hostname: expected a host name"),
        (f'[profile]\nhostname = "{"a." * 33}b"', "profile.hostname: expected a host name"),
        ('[profile]\nlocale = "german"', 'profile.locale: expected a locale such as "C.UTF-8"'),
        ('[profile]\ntimezone = "Berlin"', 'profile.timezone: expected a time zone such as "Europe/Berlin"'),
        ('[profile]\ntimezone = "../../etc/passwd"', "profile.timezone: expected a time zone"),
        ('[profile]\nrun = [" "]', "profile.run[0]: expected a command for sh"),
        ('[profile]\nusers = [{name = "Bob"}]', "profile.users[0].name: expected a name of at most 32 lower case"),
        ('[profile]\nusers = [{name = "a"}, {name = "a"}]', 'profile.users: user "a" stands there twice'),
        ('[profile]\nusers = [{name = "a", uid = 9}, {name = "b", uid = 9}]', "profile: uid 9 is given twice"),
        ('[profile]\nusers = [{name = "a", uid = -1}]', "profile.users[0].uid: expected at least 0, got -1"),
        ('[profile]\nusers = [{name = "a", uid = 65536}]', "profile.users[0].uid: expected at most 65533, got 65536"),
        ('[profile]\nusers = [{name = "a", home = "srv"}]', "profile.users[0].home: expected an absolute path"),
        (
            '[profile]\nusers = [{name = "a", authorized_keys = ["id_rsa.pub"]}]',
            "profile.users[0].authorized_keys[0]: expected a public key",
        ),
        ('[boot]\nmemory_max = "512 MB"', 'boot.memory_max: expected a size such as "512M", got "512 MB"'),
        ("[boot]\nmemory_max = 0", 'boot.memory_max: expected a size such as "512M", got 0 (integer)'),
        ("[boot]\ncpu_quota = 0", "boot.cpu_quota: expected at least 1, got 0"),
        ("[boot]\ntimeout = 0", "boot.timeout: expected more than 0, got 0"),
        ("[boot]\ntimeout = inf", "boot.timeout: expected a number, got inf (float)"),
        ('[artifact]\ncompression = "zstd-20"', 'artifact.compression: expected "zstd", "zstd-1" to "zstd-19"'),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_what_would_be_right(text: str, start: str, tmp_path: Path) -> None:
    (line,) = mistakes(write(tmp_path / "some", text))
    assert line.startswith(start)


def test_a_password_in_the_clear_is_refused_and_not_repeated(tmp_path: Path) -> None:
    (line,) = mistakes(write(tmp_path / "some", '[profile]\nusers = [{name = "a", password = "hunter2"}]'))
    assert line.startswith('profile.users[0].password: expected "locked", or a hash as mkpasswd prints it')
    assert "hunter2" not in line


def test_values_that_are_right_are_taken(tmp_path: Path) -> None:
    image = read(
        tmp_path,
        f"""
        [bootstrap]
        method = "debootstrap"
        mirror = "http://127.0.0.1:3142/debian"
        [profile]
        packages = ["nginx=1.26.3-3", "libc6:amd64", "vim/stable", "g++"]
        enable = ["getty@tty1.service", "dev-disk-by\\\\x2dlabel-x.swap"]
        timezone = "America/Argentina/Buenos_Aires"
        locale = "de_DE.UTF-8@euro"
        users = [{{ name = "_x-1", password = "$y$j9T$abc$def", authorized_keys = ['from="10.0.0.0/8" {KEY}'] }}]
        [boot]
        memory_max = 536870912
        timeout = 2.5
        """,
    )
    assert image.bootstrap.method == "debootstrap"
    assert image.boot.memory_max == 536870912


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = 'descripton = "x"\n[bootstrap]\nsuit = "x"\n[profile]\nenable = ["a"]\n[boot]\nnofile = "x"'
    assert [line.split(":")[0] for line in mistakes(write(tmp_path / "some", text))] == [
        "bootstrap.suit", "profile.enable[0]", "boot.nofile", "descripton",
    ]  # fmt: skip


def test_a_bad_name_and_a_bad_file_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load(write(tmp_path / "Some", "x = 1"))
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        str(tmp_path / "Some"), str(tmp_path / "Some/image.toml"),
    ]  # fmt: skip


def test_bad_toml_is_told_with_line_and_column(tmp_path: Path) -> None:
    (line,) = mistakes(write(tmp_path / "some", "[boot]\nnofile = = 3\n"))
    assert line.startswith("no valid TOML: ")
    assert "line 2, column 10" in line


def test_a_file_that_is_no_text_is_told_with_its_line(tmp_path: Path) -> None:
    write(tmp_path / "some", "")
    (tmp_path / "some/image.toml").write_bytes(b'description = "x"\n# \xff')
    assert mistakes(tmp_path / "some") == ["line 2: expected text in UTF-8"]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert mistakes(tmp_path / "none") == ["there is no such file"]


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "some/image.toml").mkdir(parents=True)
    assert mistakes(tmp_path / "some") == ["cannot be read: Is a directory"]


def test_a_root_that_is_no_folder_is_told(tmp_path: Path) -> None:
    write(tmp_path / "some", "")
    (tmp_path / "some/root").touch()
    with pytest.raises(InputError, match="some/root: expected a folder"):
        load(tmp_path / "some")


def test_a_key_file_that_is_missing_is_told_with_its_path(tmp_path: Path) -> None:
    text = '[[bootstrap.repositories]]\nuri = "https://x.example"\nsuite = "x"\nkey = "x.asc"'
    folder = write(tmp_path / "some", text)
    assert mistakes(folder) == [f"bootstrap.repositories[0].key: there is no file {folder}/x.asc"]


def test_paths_are_told_as_they_would_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "images/some", "x = 1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^images/some/image\.toml: x: unknown key"):
        load(Path("images/some"))


@pytest.mark.parametrize("name", ["../x", "a b", "a" * 65, "Web", "", "-a", "a-", "a.b", "a_b", "ä", "a\n"])
def test_a_name_that_no_machine_can_have_is_refused(name: str) -> None:
    with pytest.raises(InputError) as caught:
        check_name(name)
    assert "1 to 64 lower case letters, digits and hyphens" in str(caught.value)


@pytest.mark.parametrize("name", ["a", "7", "web-10", "a" * 64])
def test_a_name_that_a_machine_can_have_is_taken(name: str) -> None:
    check_name(name)


def test_schema_and_reference_page_in_docs_are_up_to_date() -> None:
    for path, text in documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python -m pipeline.image"


def test_the_check_of_the_documents_says_what_to_run(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline.image", "--check"], cwd=DOCS.parent, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (0, "")


def test_the_images_of_this_repository_are_read_and_name_the_schema() -> None:
    for folder in (file.parent for file in (DOCS.parent / "tests/images").glob("*/image.toml")):
        load(folder)
        first = (folder / "image.toml").read_text().splitlines()[0]
        assert (folder / first.removeprefix("#:schema ")).resolve() == (DOCS / "image.schema.json").resolve()


@pytest.mark.parametrize(
    ("data", "valid"),
    [
        ({}, True),
        ({"bootstrap": {"suite": "sid"}}, True),
        ({"bootstrap": {"method": "debootstrap", "variant": "minbase"}, "boot": {"memory_max": 5}}, True),
        ({"bootstrap": {"method": "zzz"}}, False),
        ({"bootstrap": {"suit": "sid"}}, False),
        ({"profile": {"pakages": []}}, False),
        ({"boot": {"memory_max": "5 MB"}}, False),
        ({"artifact": {"compression": "rar"}}, False),
        ({"x": 1}, False),
    ],
)
def test_an_editor_sees_what_is_wrong(data: dict[str, Any], valid: bool) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert jsonschema.Draft202012Validator(schema()).is_valid(data) is valid


def test_importing_images_leaves_slow_modules_out() -> None:
    code = "import sys, pipeline.image; print(*({'difflib', 'pytest', 'libzfs_core'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=DOCS.parent, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []


def image(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "image.toml").write_text(text)
    return folder


def test_an_image_stands_on_another_one_beside_it_or_elsewhere(tmp_path: Path) -> None:
    image(tmp_path / "a/base", '[bootstrap]\nsuite = "sid"\n')
    image(tmp_path / "b/middle", 'from = "base"\n')
    top = image(tmp_path / "b/top", 'from = "middle"\n')
    loaded = load(top, [tmp_path / "a"])
    assert [one.name for one in loaded.chain] == ["top", "middle", "base"]
    assert loaded.bootstrap == load(tmp_path / "a/base").bootstrap


def test_a_base_that_does_not_exist_is_told_with_the_nearest_and_the_chain(tmp_path: Path) -> None:
    image(tmp_path / "base", "")
    image(tmp_path / "middle", 'from = "bsae"\n')
    top = image(tmp_path / "top", 'from = "middle"\n')
    with pytest.raises(InputError) as told:
        load(top)
    assert told.value.message.endswith(
        'middle/image.toml: from: there is no image "bsae"; did you mean "base"? (top → middle → bsae)'
    )


def test_a_circle_of_bases_is_drawn(tmp_path: Path) -> None:
    for name, base in (("a", "b"), ("b", "c"), ("c", "b")):
        image(tmp_path / name, f'from = "{base}"\n')
    with pytest.raises(InputError, match=r"c/image.toml: from: a circle: b → c → b"):
        load(tmp_path / "a")


def test_a_base_brings_its_own_bootstrap(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`from` and `\[bootstrap\]` exclude each other"):
        load(image(tmp_path / "top", 'from = "base"\n[bootstrap]\nsuite = "sid"\n'))
