"""pytest-xdist's part: which tests go to one worker together, in which order, and what a lost worker costs."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped,unused-ignore]

from pipeline.errors import InputError
from pipeline.plugin import loss, timeline
from pipeline.plugin.collect import image_folder, image_in
from pipeline.plugin.options import settings


def _image(scope: str) -> Path | None:
    """The folder of the image that a scope is; None for a test module."""
    return Path(scope) if Path(scope).is_absolute() else None


class ImageScheduling(LoadScopeScheduling):  # type: ignore[misc,unused-ignore]
    """Everything of an image is one scope, and so is a test module; a worker takes a scope as a whole.

    What stands on an image waits until all checks of that are through: behind them on the same worker, or for the
    image's lock, which is taken by its first check. Workers on another host do not wait: they make the base in a pool
    of their own. A worker that dies fails the image that it was at: half of its checks are no verdict, and another
    worker could not go on with what ran in the dead one. What it had not begun goes to others.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self._chains: dict[str, tuple[str, ...]] = {}
        self._seconds = timeline.seconds(settings(config).wishes.artifacts)

    def _split_scope(self, nodeid: str) -> str:
        """An image's folder, an absolute path, or a test module, a path below the root."""
        file = nodeid.split("::", 1)[0]
        folder = image_folder(Path(self.config.rootpath) / file)
        return str(folder) if folder is not None else file

    def _assign_work_unit(self, node: Any) -> None:
        """Hands out a base before what stands on it, and else the longest, so that none comes alone at the end.

        What stands on a base that another worker is at comes last: it will wait for that. Hands out nothing where all
        that is left stands on a base that is in the hands of another worker and not begun there.
        """
        below = Counter(base for scope in self.workqueue for base in self._bases(scope))
        begun, others = self._elsewhere(node)
        ready = [scope for scope in self.workqueue if others.isdisjoint(self._bases(scope))]
        if not ready:
            return
        first = max(ready, key=lambda one: (begun.isdisjoint(self._bases(one)), below[one], self._cost(one)))
        self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)

    def _elsewhere(self, node: Any) -> tuple[set[str], set[str]]:
        """The scopes at which other workers on a worker's host are, and those that wait for these workers.

        An image whose first check is through holds its datasets until its last one is: who comes to them waits.
        """
        host = self._host(node)
        begun: set[str] = set()
        others: set[str] = set()
        for other, workload in self.assigned_work.items():
            if other is not node and self._host(other) == host:
                for scope, unit in workload.items():
                    if not all(unit.values()):
                        (begun if any(unit.values()) else others).add(scope)
        return begun, others

    def _host(self, node: Any) -> str:
        """Where a worker is: the name of a build host, "" for this machine."""
        names: dict[str, str] = self.config.stash.get(loss.NAMES, {})
        return names.get(node.gateway.id, "")

    def _bases(self, scope: str) -> tuple[str, ...]:
        """The scopes of the images on which an image stands; none for a test module, or where a definition is wrong."""
        if scope not in self._chains:
            self._chains[scope] = ()
            with contextlib.suppress(InputError):  # which its worker reports
                if (folder := _image(scope)) is not None:
                    self._chains[scope] = tuple(str(base.folder) for base in image_in(folder, self.config).chain[1:])
        return self._chains[scope]

    def _cost(self, scope: str) -> float:
        """How long an image takes, in seconds, as far as the run before knows; what nobody knows may be longest."""
        folder = _image(scope)
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

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Takes note that a test is through; with the first one of an image, others may be told what stands on it."""
        super().mark_test_complete(node, item_index, duration)
        done = [*self.assigned_work[node][self._split_scope(self.registered_collections[node][item_index])].values()]
        if sum(done) == 1 or all(done):
            for other in self.nodes:
                if other is not node:
                    self._reschedule(other)

    def remove_node(self, node: Any) -> str | None:
        """Takes a worker out that has ended or died; returns the test that it died in, if others go on with the rest.

        Raises `KeyError` for a worker that had not begun.
        """
        workload = self.assigned_work[node]
        running = next((scope for scope, unit in workload.items() if not all(unit.values())), None)
        if running is None:
            del self.assigned_work[node]
            return None
        if _image(running) is None:
            crashed: str | None = super().remove_node(node)
            return crashed
        lost = [nodeid for nodeid, done in workload[running].items() if not done]
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
        who = self._host(node) or f"worker {node.gateway.id}"
        tests = [loss.Lost.known_by(self.config, nodeid) for nodeid in nodeids]
        loss.report(self.config, tests, f"{who} is lost: it died {when}", f"blocked: {who} is lost", node.gateway.id)
