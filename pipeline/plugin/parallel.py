"""pytest-xdist's part: which tests go to one worker together, in which order, and what a lost worker costs."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped,unused-ignore]

from pipeline.errors import InputError
from pipeline.image import load
from pipeline.plugin import loss, timeline
from pipeline.plugin.collect import image_folder
from pipeline.plugin.options import settings


class ImageScheduling(LoadScopeScheduling):  # type: ignore[misc,unused-ignore]
    """Everything of an image is one scope, and so is a test module; a worker takes a scope as a whole.

    A worker that dies fails the image that it was at: half of its checks are no verdict, and another worker could not
    go on with what ran in the dead one. What it had not begun goes to others.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self._chains: dict[Path, tuple[Path, ...]] = {}
        self._seconds = timeline.seconds(settings(config).wishes.artifacts)

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        folder = self._folder(file)
        return str(folder) if folder is not None else file

    def _folder(self, file: str) -> Path | None:
        return image_folder(Path(self.config.rootpath) / file)

    def _assign_work_unit(self, node: Any) -> None:
        """Hands out a base before what stands on it, and else the longest, so that none comes alone at the end."""
        folders = {scope: self._folder(next(iter(unit)).split("::", 1)[0]) for scope, unit in self.workqueue.items()}
        below: Counter[Path | None] = Counter(
            base for folder in folders.values() if folder is not None for base in self._bases(folder)
        )
        first = max(folders, key=lambda scope: (below[folders[scope]], self._cost(folders[scope])))
        self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)

    def _bases(self, folder: Path) -> tuple[Path, ...]:
        """The folders of the images on which an image stands; none for one whose definition is wrong."""
        if folder not in self._chains:
            try:
                image = load(folder, settings(self.config).images)
                self._chains[folder] = tuple(base.folder for base in image.chain[1:])
            except InputError:  # which its worker reports
                self._chains[folder] = ()
        return self._chains[folder]

    def _cost(self, folder: Path | None) -> float:
        """How long an image takes, in seconds, as far as the run before knows; what nobody knows may be longest."""
        return 0.0 if folder is None else self._seconds.get(folder.name, math.inf)

    def _reschedule(self, node: Any) -> None:
        """Gives a worker more to do as late as can be: it begins a test only when it knows the next one.

        So what would wait behind a long image is left to whoever is free first, and a worker stays at hand.
        """
        if node.shutting_down or self._pending_of(self.assigned_work[node]) > 1:
            return
        if self.workqueue:
            self._assign_work_unit(node)
        else:
            node.shutdown()

    def remove_node(self, node: Any) -> str | None:
        """Takes a worker out that has ended or died; returns the test that it died in, if others go on with the rest.

        Raises `KeyError` for a worker that had not begun.
        """
        workload = self.assigned_work[node]
        running = next((scope for scope, unit in workload.items() if not all(unit.values())), None)
        if running is None:
            del self.assigned_work[node]
            return None
        lost = [nodeid for nodeid, done in workload[running].items() if not done]
        if self._folder(lost[0].split("::", 1)[0]) is None:
            crashed: str | None = super().remove_node(node)
            return crashed
        del self.assigned_work[node], workload[running]
        self.workqueue.update({scope: unit for scope, unit in workload.items() if not all(unit.values())})
        self._report(node, lost, f"while it was at {lost[0]}")
        for other in self.nodes:
            self._reschedule(other)
        return None

    def forget(self, node: Any) -> None:
        """Goes on without a worker that is not replaced, also where all still wait for what it collects."""
        if node not in self.registered_collections:
            self.numnodes -= 1
            if self.collection is None and self.registered_collections and self.collection_is_completed:
                self.schedule()

    def give_up(self, node: Any) -> None:
        """Reports all that is left as lost: `node` died, and there is no worker any more that could do it."""
        for unit in self.workqueue.values():
            self._report(node, [nodeid for nodeid, done in unit.items() if not done], "and no other is left")
        self.workqueue.clear()

    def _report(self, node: Any, nodeids: list[str], when: str) -> None:
        who = self.config.stash.get(loss.NAMES, {}).get(node.gateway.id, f"worker {node.gateway.id}")
        tests = [loss.Lost.known_by(self.config, nodeid) for nodeid in nodeids]
        loss.report(self.config, tests, f"{who} is lost: it died {when}", f"blocked: {who} is lost", node.gateway.id)
