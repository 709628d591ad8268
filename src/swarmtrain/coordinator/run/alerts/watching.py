"""What is measured of a living run, looked at for what people are to be told of; found, it goes into the journal."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping

from swarmtrain.coordinator.core.alerts.loss import LossWatch
from swarmtrain.coordinator.core.alerts.nodes import NodeLevels, NodeWatch
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.store.series.segment import StreamKey
from swarmtrain.protocol.alerts.kinds import AlertKind
from swarmtrain.protocol.journal.told import AlertRaised
from swarmtrain.wire.disk.records import Record
from swarmtrain.wire.metrics import as_heard

_SECONDS = 5.0  # between two looks at the nodes
_DISK, _FREE = "node/disk_used_ratio", "node/disk_free_bytes"
_HEAT, _HOT = "gpu/temperature_celsius", "gpu/slowed_by_heat"


class Watching:
    """Watches one run.

    Args:
        kinds: of which alerts somebody is told.
    """

    def __init__(self, run: RunController, kinds: Collection[AlertKind]) -> None:
        self._run, self._kinds = run, kinds
        self._losses: dict[int, LossWatch] = {}  # by rank
        self._generation = 0
        self._nodes = NodeWatch()
        self._full = False  # the coordinator's own disk

    async def watch(self) -> None:
        """Watch until the end of the run."""
        if {"nan", "diverging"} & {*self._kinds}:
            self._run.progress.listener = self._hear
        looks_at_nodes = bool({"disk_low", "gpu_hot"} & {*self._kinds})
        while looks_at_nodes and self._run.phase is not Phase.ENDED:
            self.look_at_nodes()
            await asyncio.sleep(_SECONDS)

    def _hear(self, line: Record) -> None:
        """A line of a worker."""
        told = {"report": line.get("values"), "step": line}.get(str(line.get("kind")))
        loss = as_heard(told.get("loss")) if isinstance(told, dict) else None
        generation, rank, step = line["g"], line["r"], line.get("step")
        if loss is None or generation < self._generation or self._run.phase is Phase.ENDED:
            return
        if generation > self._generation:
            self._generation, self._losses = generation, {}
        watch = self._losses.setdefault(rank, LossWatch())
        found = watch.take(loss, step if isinstance(step, int) else None)
        if found is not None and found.kind in self._kinds:
            text = f"rank {rank} on {line['n']}: {found.text}"
            # Of one thing: what is averaged over the ranks is no number on all of them.
            self._raise(found.kind, f"loss in generation {generation}", text, str(line["n"]), rank)

    def look_at_nodes(self) -> None:
        """What nodes have measured of themselves of late."""
        run, now = self._run, self._run.journal.clock.now()
        was_full, self._full = self._full, run.output.full() or run.progress.full()
        if self._full and not was_full and "disk_low" in self._kinds:
            text = "the coordinator's disk takes no more of what workers write"
            self._raise("disk_low", "coordinator", text, run.place.node)
        for sample in _samples(run.progress.series.store().last()):
            for found in self._nodes.take(sample, now):
                if found.kind in self._kinds:
                    self._raise(found.kind, found.about, found.text, found.node)

    def _raise(self, kind: AlertKind, about: str, text: str, node: str, rank: int | None = None) -> None:
        known = (event for event in self._run.journal.all(AlertRaised) if event.alert == kind)
        if kind in ("nan", "diverging") and any(event.about == about for event in known):
            return  # by another rank, or told before this coordinator was started again
        self._run.journal.append(AlertRaised(text=text, alert=kind, about=about, node=node, rank=rank))


def _samples(last: Mapping[StreamKey, tuple[float, int, float]]) -> list[NodeLevels]:
    """The newest of every node."""
    values: dict[str, dict[str, tuple[float, float]]] = {}
    gpus: dict[str, dict[str, dict[str, float]]] = {}
    for key, (time, _, value) in last.items():
        if key.generation or not math.isfinite(value):
            continue
        if key.name in (_DISK, _FREE):
            values.setdefault(key.node, {})[key.name] = (time, value)
        if key.name in (_HEAT, _HOT) and (gpu := dict(key.labels).get("gpu")) is not None:
            values.setdefault(key.node, {})[key.name] = (time, value)
            gpus.setdefault(key.node, {}).setdefault(gpu, {})[key.name] = value
    return [
        NodeLevels(
            node=node,
            time=max(time for time, _ in its.values()),
            used=its[_DISK][1] if _DISK in its else None,
            free=its[_FREE][1] if _FREE in its else None,
            gpus={
                gpu: (told.get(_HOT, 0.0) > 0, told.get(_HEAT)) for gpu, told in gpus.get(node, {}).items()
            },
        )
        for node, its in values.items()
    ]
