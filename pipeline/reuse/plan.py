"""Which stage a build starts after, and why not after a later one: decided from a listing, nothing is touched.

A snapshot can be reused if it ends the stage with just these inputs, and if the world that its packages came from has
not moved since. The latter is looked at only for the newest that would do, so an unchanged image costs one look.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.reuse.inputs import CODE, Keys
from pipeline.reuse.marks import packed, unpacked
from pipeline.reuse.world import Source, from_text
from pipeline.zfs import Entry

LAYERS = ("bootstrap", "cycles", "packages")
"""The stages that end in a layer: a dataset that images with the same inputs share."""

ORDER = (*LAYERS, "candidate")


@dataclass(frozen=True)
class Policy:
    """What may be reused: nothing of which the world has moved; from the stage `rebuild` on, none older than `since`.

    `since` (Unix time, seconds) is when the session began: what several images share is made anew once in it. With
    `frozen` the world is not looked at, and neither is it where it was seen less than `max_age` seconds ago.
    """

    rebuild: str = ""
    frozen: bool = False
    max_age: float = 0.0
    since: float = math.inf

    def refuses(self, stage: str) -> bool:
        """Whether a stage is to be made anew, whatever is there."""
        return bool(self.rebuild) and ORDER.index(stage) >= ORDER.index(self.rebuild)

    def age(self, stage: str) -> float:
        """Seconds for which what a stage fetched is taken without a look; below 0: not at all."""
        return -1.0 if self.refuses(stage) else math.inf if self.frozen else self.max_age


@dataclass(frozen=True)
class Start:
    """Where a build starts: `stage` is the last one whose work holds ("" for none), `snapshot` what it left.

    `made` is when (Unix time, seconds), and `times` has that of the stages below; `why` says of each later stage why it
    is made anew, `looked` whether the world that it came from was looked at.
    """

    stage: str = ""
    snapshot: str = ""
    made: float = 0.0
    why: Mapping[str, str] = field(default_factory=dict)
    looked: bool = False
    times: Mapping[str, float] = field(default_factory=dict)

    def holds(self, stage: str) -> bool:
        """Whether the work of a stage needs not be done."""
        return bool(self.stage) and ORDER.index(stage) <= ORDER.index(self.stage)


def plan(
    entries: Sequence[Entry], keys: Keys, policy: Policy, *, now: float, moved: Callable[[Sequence[Source]], list[str]]
) -> Start:
    """The newest stage that can be reused. `moved` tells which sources have changed (`world.moved`).

    Raises what `moved` raises.
    """
    why: dict[str, str] = {}
    before = last_reads(entries)
    for stage in reversed([one.stage for one in keys.inputs]):
        anew = policy.refuses(stage)
        found = newest(entries, stage, keys.of(stage), since=policy.since if anew else 0.0)
        if found is None:
            changed = changes(before.get(stage), keys.reads[stage]) if before else "not built before"
            why[stage] = "as asked" if anew else changed
            continue
        marks = found.properties
        looked = False
        if not anew and not policy.frozen and not 0 <= now - float(marks.get("current", "0")) < policy.max_age:
            sources = from_text(marks.get("world", ""))
            looked = True
            if lost := ["what it came from is not known"] if sources is None else moved(sources):
                why[stage] = f"updates in {', '.join(_short(uri) for uri in lost)}"
                continue
        return Start(stage, found.name, float(marks.get("made", "0")), why, looked, times_of(marks))
    return Start(why=why)


def times_of(marks: Mapping[str, str]) -> dict[str, float]:
    """When the stages below a snapshot were made (Unix time), as its marks tell; {} where they do not."""
    try:
        return {str(stage): float(made) for stage, made in json.loads(marks.get("times", "{}")).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def newest(entries: Sequence[Entry], stage: str, key: str, *, since: float = 0.0) -> Entry | None:
    """The youngest snapshot that ends `stage` with the inputs of `key`, made at `since` (Unix time) or later."""
    found = [
        entry
        for entry in entries
        if entry.kind == "snapshot" and entry.properties.get("stage") == stage and entry.properties.get("inputs") == key
    ]
    made = [(float(entry.properties.get("made", "0")), entry.name, entry) for entry in found]
    young = [row for row in made if row[0] >= since]
    return max(young)[2] if young else None


def reads_mark(keys: Keys) -> str:
    """What all stages of an image read, as the text of its candidate's property `reads`."""
    whole = {stage: dict(reads) for stage, reads in keys.reads.items()}
    if (text := packed(whole)) is not None:
        return text
    less = {
        stage: {name: value for name, value in reads.items() if not name.startswith("root/")}
        for stage, reads in whole.items()
    }
    return packed(less) or ""


def last_reads(entries: Sequence[Entry]) -> Mapping[str, Mapping[str, str]]:
    """What the stages of the youngest candidate among the entries read; {} where there is none."""
    mine = [entry.properties for entry in entries if entry.properties.get("stage") == "candidate"]
    candidates = [(float(told.get("made", "0")), told["reads"]) for told in mine if told.get("reads")]
    data = unpacked(max(candidates)[1]) if candidates else None
    return data if isinstance(data, dict) else {}


def changes(old: Mapping[str, str] | None, new: Mapping[str, str]) -> str:
    """How inputs differ, in a few words: `packages: + curl`, `root/etc/motd changed`."""
    if old is None:
        return "new"
    told = [line for name in sorted({*old, *new}) for line in _change(name, old.get(name), new.get(name))]
    if not told:
        return "what it stands on changed"
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    return "; ".join(told[:3]) + more


def _change(name: str, old: str | None, new: str | None) -> Iterator[str]:
    if old == new:
        return
    file = name.startswith(("root/", "file ", "folder "))
    if name == CODE:
        yield f"{CODE} changed"
    elif old is None or new is None:
        yield f"{'+' if old is None else '-'} {name}"
    elif file or "." not in name:
        yield f"{name} changed"
    else:
        short, before, after = name.rpartition(".")[2], _value(old), _value(new)
        if isinstance(before, list) and isinstance(after, list):
            gone = [f"- {_shown(one)}" for one in before if one not in after]
            come = [f"+ {_shown(one)}" for one in after if one not in before]
            yield f"{short}: {', '.join([*come, *gone])}" if gone or come else f"{short}: in another order"
        else:
            yield f"{short}: {_shown(after)} instead of {_shown(before)}"


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _short(uri: str) -> str:
    """An address without its scheme and server, which all suites of a distribution share."""
    return uri.split("://", 1)[-1].partition("/")[2].removesuffix("/InRelease") or uri


def ago(seconds: float) -> str:
    """A time that has passed, as people say it: "2 days ago"."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {unit}{'s' if count != 1 else ''} ago"
    return "just now"
