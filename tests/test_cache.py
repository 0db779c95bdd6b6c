"""The stage cache with real datasets: what has not changed is not done again, and what changed is.

In the order in which a user would meet it, on images that share one bootstrap; each session is one of a user's.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifact import manifest
from pipeline.image import load
from pipeline.place import Place
from pipeline.reuse.inputs import keys
from pipeline.reuse.verified import Check, Verdict, as_mark, key
from pipeline.reuse.world import from_text
from pipeline.zfs import Zfs
from tests.conftest import SMALL, Sessions, code, forget
from tests.test_deltas import pool, shell
from tests.test_red_checks import STAGES

PACKAGE = SMALL + '[profile]\npackages = ["hello"]\n'
ON_IT = 'from = "cachebase"\n[profile]\npackages = ["tree"]\ntimezone = "Europe/Berlin"\n'
TESTS = "def test_it_says_hello(machine):\n    assert machine.run('hello').rc == 0\n"
# What an earlier run of these tests left in the place is another image's.
RUN = uuid.uuid4().hex
# Each machinectl check has its tests; here they would cost minutes.
SLOW = ("shell", "login", "reboot", "status")

NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "GOLDSPAWN_MAX_AGE": "0"}
"""Nobody listens there, and the repositories have to be asked again."""


def quick(name: str) -> list[str]:
    """Options that leave those out: then nothing is exported."""
    return [f"--deselect={name}/image.toml::machinectl_{one}" for one in SLOW]


@pytest.fixture(scope="module")
def cached(bootstrapped: Place, tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    """Sessions with `cachebase`, which has a package, and `cachetop`, which stands on it."""
    forget(bootstrapped, "cachetop", "cachebase", "broken", "partly", "ontar", "onred", "redbase")
    sessions = Sessions(tmp_path_factory.mktemp("cached"))
    sessions.image("cachebase", PACKAGE, tests=TESTS, root={"etc/motd": f"first {RUN}\n"})
    sessions.image("cachetop", ON_IT)
    return sessions


def table(output: str) -> dict[str, str]:
    """What the summary says of each stage."""
    return dict(re.findall(r"^  (\w+) +[\d.]+ s +(.+)$", output, re.M))


def log(sessions: Sessions, name: str) -> str:
    return (sessions.artifacts / "logs" / f"{name}.log").read_text()


def zfs(*words: str) -> str:
    return subprocess.run(["zfs", *words], check=True, capture_output=True, text=True, timeout=120).stdout


def test_first_all_is_made(cached: Sessions) -> None:
    ended = cached.run("--image=cachebase", "--rebuild=packages")
    assert ended.status == 0, ended.output
    assert "apt-get" in log(cached, "cachebase")
    assert ended.outcome("boot") == "PASSED"
    assert "warning" not in ended.output, "nothing that we do is warned of"


def test_unchanged_nothing_is_done_again_and_the_earlier_verdict_is_shown(cached: Sessions) -> None:
    before = (cached.artifacts / "cachebase/manifest.json").stat()
    ended = cached.run("--image=cachebase", env={"PYTHONHASHSEED": "1"})  # a key hangs on no order of a set
    assert ended.status == 0, ended.output
    reused = ended.outcomes("REUSED")
    assert {"boot", "machinectl_reboot", "test_it_says_hello", "machinectl_poweroff"} <= set(reused)
    assert re.search(r"boot, .*acceptance.*: passed \d+ \w+ ago|passed just now", ended.output)
    said = table(ended.output)
    assert said["bootstrap"].startswith("reused (from ")
    assert said["profile"].startswith("reused (from ")
    assert "apt-get" not in log(cached, "cachebase"), "a package manager was started"
    assert "systemd-nspawn" not in log(cached, "cachebase"), "something was booted"
    after = (cached.artifacts / "cachebase/manifest.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "it was exported again"


DELTAS = '[artifact]\ndeltas = ["previous"]\n'


def test_a_delta_that_cannot_be_had_is_told_and_writes_nothing_again(cached: Sessions) -> None:
    cached.image("cachebase", PACKAGE + DELTAS)
    before = (cached.artifacts / "cachebase/manifest.json").stat().st_ino
    ended = cached.run("--image=cachebase")
    assert ended.status == 0, ended.output
    assert "no delta from the previous version: this is the first one" in table(ended.output)["snapshot"]
    assert (cached.artifacts / "cachebase/manifest.json").stat().st_ino == before
    cached.image("cachebase", PACKAGE)


def test_reverify_boots_what_has_not_changed(cached: Sessions) -> None:
    ended = cached.run("--image=cachebase", "--reverify", "-k", "profile or boot and not reboot")
    assert ended.outcome("boot") == "PASSED", ended.output
    assert table(ended.output)["profile"].startswith("reused (from ")
    assert "systemd-nspawn" in log(cached, "cachebase")


def test_where_no_repository_answers_one_has_to_say_that_the_cache_will_do(cached: Sessions) -> None:
    ended = cached.run("--image=cachebase", env=NO_NETWORK)
    assert ended.status == 1
    assert ended.outcomes("FAILED") == ["dataset"], ended.output
    assert "hint: look at the network, or take what is there with --frozen (--offline)" in ended.output


@pytest.mark.parametrize("word", ["frozen", "offline"])
def test_a_lost_artifact_is_written_again_with_the_checks_that_it_passed(cached: Sessions, word: str) -> None:
    subprocess.run(["rm", "-r", str(cached.artifacts / "cachebase")], check=True)
    ended = cached.run("--image=cachebase", f"--{word}", env=NO_NETWORK)
    assert ended.status == 0, ended.output
    made = manifest.load(cached.artifacts / "cachebase")
    assert [check.result for check in made.checks] == ["passed"] * len(made.checks)
    assert sum(check.seconds for check in made.checks if check.name.endswith("::boot")) > 0.5
    assert made.world is not None and made.world.looked == word


def test_a_file_that_changed_costs_no_package_and_the_report_says_why(cached: Sessions) -> None:
    cached.image("cachebase", PACKAGE, tests=TESTS, root={"etc/motd": f"second {RUN}\n"})
    ended = cached.run("--image=cachebase")
    assert ended.status == 0, ended.output
    said = table(ended.output)
    assert said["bootstrap"].startswith("reused (from ")
    assert re.fullmatch(r"1 package reused \(from [a-z0-9 ]+\), sealed; root/etc/motd changed", said["profile"]), said
    assert "apt-get" not in log(cached, "cachebase")
    assert ended.outcome("boot") == "PASSED", "a candidate that changed is verified"


def test_deltas_that_are_asked_for_later_are_exported_once(cached: Sessions) -> None:
    cached.image("cachebase", PACKAGE + DELTAS)
    before = manifest.load(cached.artifacts / "cachebase")
    assert before.deltas == ()
    ended = cached.run("--image=cachebase")
    assert ended.outcome("boot") == "REUSED", ended.output
    made = manifest.load(cached.artifacts / "cachebase")
    assert (made.version, [one.origin.kind for one in made.deltas]) == (before.version, ["previous"])
    written = (cached.artifacts / "cachebase/manifest.json").stat().st_ino
    cached.run("--image=cachebase")
    assert (cached.artifacts / "cachebase/manifest.json").stat().st_ino == written
    cached.image("cachebase", PACKAGE)


def test_other_tests_verify_the_same_candidate_again(cached: Sessions) -> None:
    cached.image("cachebase", PACKAGE, tests=TESTS + "# more\n")
    ended = cached.run("--image=cachebase", *quick("cachebase"))
    assert table(ended.output)["profile"].startswith("reused (from ")
    assert ended.outcome("boot") == "PASSED"
    cached.image("cachebase", PACKAGE, tests=TESTS)


def test_a_session_that_was_told_to_collect_less_makes_nothing_golden(cached: Sessions, place: Place) -> None:
    """A check by its name, or image.toml without the file of tests: what then passes is no verdict of the image."""
    folder = cached.image("partly", tests="def test_it(machine): pass\n")
    alone = cached.run("partly/image.toml::snapshot")
    assert alone.outcome("snapshot") == "SKIPPED", alone.output
    assert "not exported: dataset, bootstrap, cycles and 10 more were not collected" in alone.output
    file = cached.run("partly/image.toml", "-k", "dataset or snapshot")
    assert "not exported: test_partly.py was not collected" in file.output
    assert not (cached.artifacts / "partly").exists()
    # As a version of goldspawn left it that took such a session for whole.
    short = tuple(Check(f"partly/image.toml::{name}", "passed", 1.0) for name in STAGES[:-1])
    mark = as_mark(key(load(folder)), Verdict(time.time(), short))
    assert mark is not None
    Zfs().mark(f"{place.layout.work}/partly@candidate", {"verdict": mark})
    after = cached.run("--image=partly", "-k", "boot and not reboot")
    assert after.outcome("boot") == "PASSED", after.output


def test_packages_on_a_tarball_know_the_repositories_that_they_came_from(
    cached: Sessions, small_tar: Path, place: Place
) -> None:
    """The tarball stays what it is; but an update of what was installed into it counts."""
    tarball = f'[bootstrap]\nmethod = "tarball"\ntarball = "{small_tar}"\n[profile]\npackages = ["hello"]\n'
    known = keys(load(cached.image("ontar", tarball)))
    ended = cached.run("--image=ontar", "-k", "dataset or bootstrap or cycles or profile")
    assert ended.status == 0, ended.output
    layers = {
        entry.properties["stage"]: from_text(entry.properties["world"])
        for entry in Zfs().entries(place.layout.bootstraps)
        if entry.properties.get("inputs") in (known.bootstrap, known.packages)
    }
    assert layers["bootstrap"] == ()
    assert layers["packages"] and {one.kind for one in layers["packages"]} == {"index"}


def origins(dataset: str) -> list[str]:
    """The snapshots that a dataset stands on, the nearest first."""
    found = []
    while (origin := zfs("get", "-H", "-o", "value", "origin", dataset).strip()) != "-":
        found.append(origin)
        dataset = origin.split("@")[0]
    return found


def test_an_image_stands_on_another_one_and_a_host_that_has_that_takes_a_clone_of_it(
    cached: Sessions, place: Place, tmp_path: Path
) -> None:
    ended = cached.run("--image=cachetop", "--deltas=base")
    assert ended.status == 0, ended.output
    assert re.match(r"from cachebase, reused \(from ", table(ended.output)["bootstrap"])
    assert any(
        one.startswith(f"{place.layout.golden}/cachebase@") for one in origins(f"{place.layout.golden}/cachetop")
    )
    assert "hello" not in log(cached, "cachetop"), "packages of the base were installed again"
    top, base = (manifest.load(cached.artifacts / name) for name in ("cachetop", "cachebase"))
    (delta,) = top.deltas
    assert (delta.origin.kind, delta.origin.guid) == ("base", base.snapshot.guid)
    assert delta.size < top.stream.size / 10
    with pool(tmp_path) as host:
        shell(f"zfs recv -u {host}/cachebase < {base.stream.file}", cached.artifacts / "cachebase")
        shell(f"zfs recv -u {host}/cachetop < {delta.file}", cached.artifacts / "cachetop")
        assert zfs("get", "-H", "-o", "value", "origin", f"{host}/cachetop").startswith(f"{host}/cachebase@")
        guid = zfs("get", "-Hp", "-o", "value", "guid", f"{host}/cachetop@{top.version}").strip()
        assert guid == top.snapshot.guid


def test_a_change_in_the_base_makes_anew_what_stands_on_it_and_both_live(cached: Sessions, place: Place) -> None:
    cached.image("cachebase", PACKAGE, tests=TESTS, root={"etc/motd": f"third {RUN}\n"})
    ended = cached.run("--image=cachetop", "-k", "dataset or bootstrap or cycles or profile")
    assert ended.status == 0, ended.output
    said = table(ended.output)
    assert "root/etc/motd changed" in said["bootstrap"]
    assert "what it stands on changed" in said["profile"]
    assert f"{place.layout.work}/cachebase@candidate" in origins(f"{place.layout.work}/cachetop")
    # The base is made once more: what stands on its last candidate keeps it.
    cached.image("cachebase", PACKAGE, tests=TESTS, root={"etc/motd": f"fourth {RUN}\n"})
    again = cached.run("--image=cachebase", "-k", "dataset or bootstrap or cycles or profile")
    assert again.status == 0, again.output
    retired = f"{place.layout.bootstraps}/retired-cachebase-"
    assert any(one.startswith(retired) for one in origins(f"{place.layout.work}/cachetop"))


def test_cache_info_lists_what_there_is_and_why_it_is_kept(cached: Sessions, place: Place) -> None:
    ended = cached.run("--cache-info")
    assert ended.status == 0, ended.output
    assert re.search(r"^below \S+ +stage +size +age +why it is kept$", ended.output, re.M)
    assert re.search(r"^golden/cachebase +golden .*golden: kept until a newer version passes$", ended.output, re.M)
    assert re.search(r"^bootstrap/retired-cachebase-\d+ +retired .* stands on it$", ended.output, re.M)
    assert re.search(r"^bootstrap/\w+-\d+ +packages ", ended.output, re.M)
    assert re.search(r"^\d+ of at most 200 entries, ", ended.output, re.M)
    assert re.search(r"^below /\S+ +size +what it is, and how long it is kept$", ended.output, re.M)
    assert re.search(r"^tars +[1-9][.\d]* [MG]B +root file systems: 14 days after", ended.output, re.M)
    assert re.search(r"^packages +\d+ MB +Debian's: 30 days after .*, 4 GiB at most$", ended.output, re.M)


def test_pruning_takes_what_nothing_stands_on_and_breaks_nothing(
    cached: Sessions, place: Place, nothing_left: Callable[..., list[str]]
) -> None:
    argv = ["python3", "-m", "pipeline.cache", f"--dataset={place.layout.base}", "--number=0", "prune"]
    forgotten = f"{place.layout.bootstraps}/{'0' * 16}-1"
    zfs("create", "-o", "mountpoint=none", "-o", "org.goldspawn:owner=goldspawn", forgotten)
    zfs("snapshot", "-o", "org.goldspawn:stage=packages", f"{forgotten}@tree")
    zfs("snapshot", f"{place.layout.work}/cachetop@somebodys")
    zfs("clone", f"{place.layout.work}/cachetop@somebodys", f"{place.layout.base}/theirs")
    try:
        told = subprocess.run(argv, capture_output=True, text=True, timeout=300, env={**os.environ, **code()}, cwd="/")
        assert told.returncode == 0, told.stderr
        assert f"pruned {forgotten}: more than 0 entries" in told.stdout.splitlines()
        assert forgotten not in zfs("list", "-H", "-o", "name", "-r", place.layout.bootstraps).split()
        assert zfs("list", "-H", "-o", "name", f"{place.layout.base}/theirs").strip()
        assert zfs("list", "-H", "-o", "name", f"{place.layout.work}/cachetop").strip(), "a clone stands on it"
        assert zfs("list", "-H", "-o", "name", f"{place.layout.golden}/cachebase").strip()
    finally:
        zfs("destroy", f"{place.layout.base}/theirs")
        zfs("destroy", f"{place.layout.work}/cachetop@somebodys")
    assert nothing_left("cachebase", "cachetop") == []


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["one process", "two workers"])
def test_nothing_is_built_on_a_base_that_failed_in_this_run(cached: Sessions, workers: list[str]) -> None:
    """Although it comes later in the order of folders, and a part of the base's work is kept from the run before."""
    unit = "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n"
    text = SMALL + '[profile]\nenable = ["bad.service"]\n'
    cached.image("redbase", text, root={"etc/systemd/system/bad.service": unit})
    cached.image("onred", 'from = "redbase"\n')
    ended = cached.run("--image=onred", "--image=redbase", *workers)
    assert ended.status == 1
    summary = dict(re.findall(r"^FAILED (\w+)/image\.toml::(\w+)", ended.output, re.M))
    assert "redbase, on which it stands, is not verified: boot failed" in ended.output
    assert summary == {"onred": "bootstrap", "redbase": "boot"}, ended.output
    assert not (cached.artifacts / "onred").exists()
    assert "redbase: boot" in log(cached, "redbase"), "what stands on it wrote over its log"


def test_bisect_names_the_stage_that_broke_the_machine(cached: Sessions) -> None:
    unit = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n"
    cached.image("broken", PACKAGE + 'enable = ["bad.service"]\n', root={"etc/systemd/system/bad.service": unit})
    ended = cached.run("--image=broken", "--bisect", "-k", "dataset or bootstrap or cycles or profile or boot")
    assert ended.status == 1
    assert "packages: boots, and is healthy" in ended.output, ended.output
    assert "bootstrap: boots" not in ended.output, "what lies below a good one need not be looked at"
    assert "the first red one is profile. Reopen it:" in ended.output
    opened = re.search(r"-m pipeline\.cache open (\S+)", ended.output)
    assert opened is not None and opened[1].endswith("/work/broken@candidate")


def test_bisect_names_the_stage_since_which_a_check_of_machinectl_fails(cached: Sessions) -> None:
    cached.image("broken", PACKAGE + 'mask = ["container-getty@.service"]\n')
    ended = cached.run("--image=broken", "--bisect", "-k", "dataset or bootstrap or cycles or profile or boot or login")
    assert ended.outcome("machinectl_login") == "FAILED", ended.output
    assert ended.outcome("machinectl_reboot") == "PASSED", "the machine itself runs on"
    assert "no login prompt came" in ended.output
    assert "packages: boots, and is healthy, and passes that" in ended.output
    assert "the first red one is profile. Reopen it:" in ended.output
