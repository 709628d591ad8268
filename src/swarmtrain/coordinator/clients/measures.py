"""What the series tell of a run's nodes and ranks at a moment, for a diagnosis. May be read in a thread."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection

from swarmtrain.coordinator.store.series.segment import StreamKey
from swarmtrain.coordinator.store.series.store import SeriesStore
from swarmtrain.diagnosis.measures import NodeMeasures, RankPace

_FRESH = 60.0  # seconds before the moment, within which a node has measured itself if at all
_TOGETHER = 1.0  # seconds within which values are of one look
_DATA = "train/data_seconds"
_COMPUTE = ("train/forward_seconds", "train/backward_seconds", "train/optimizer_seconds")
_NOW, _BEFORE = (60.0, 0.0), (600.0, 120.0)  # seconds before the moment
_POINTS = 5  # at least, of which a mean is one


def node_measures(store: SeriesStore, nodes: Collection[str], moment: float) -> dict[str, NodeMeasures]:
    """The newest that each of these nodes has measured of itself before a moment, Unix time."""
    newest: dict[str, dict[StreamKey, tuple[float, float]]] = {}
    for key in store.last():
        if key.node in nodes and key.generation == 0 and key.name.startswith(("node/", "gpu/", "link/")):
            columns = store.read(key, moment - _FRESH, moment)
            at = bisect_right(columns.time, moment) - 1
            if at >= 0 and columns.time[at] >= moment - _FRESH and math.isfinite(columns.mean[at]):
                newest.setdefault(key.node, {})[key] = columns.time[at], columns.mean[at]
    return {node: _measures(found) for node, found in newest.items()}


def _measures(found: dict[StreamKey, tuple[float, float]]) -> NodeMeasures:
    time = max(moment for moment, _ in found.values())
    values: dict[str, float] = {}
    gpus: dict[str, dict[str, float]] = {}
    links: dict[str, dict[str, float]] = {}
    for key, (moment, value) in found.items():
        if moment < time - _TOGETHER:
            continue
        labels = dict(key.labels)
        if (gpu := labels.get("gpu")) is not None:
            gpus.setdefault(gpu, {})[key.name] = value
        elif (peer := labels.get("peer")) is not None:
            links.setdefault(peer, {})[key.name] = value
        else:
            values[key.name] = value
    return NodeMeasures(time=time, values=values, gpus=gpus, links=links)


def rank_paces(store: SeriesStore, generation: int, moment: float) -> dict[int, RankPace]:
    """Where the time of each rank's steps goes; those that do not tell all of it are left out."""
    keys = {
        (key.name, dict(key.labels).get("rank", "")): key
        for key in store.last()
        if key.generation == generation
    }
    found: dict[int, RankPace] = {}
    for rank in sorted(int(rank) for name, rank in keys if name == _DATA and rank.isdigit()):
        its = [keys[name, str(rank)] for name in (_DATA, *_COMPUTE) if (name, str(rank)) in keys]
        if len(its) <= len(_COMPUTE):
            continue
        data, *compute = (_mean(store, key, moment, *_NOW) for key in its)
        parts = [part for part in compute if part is not None]
        if data is None or len(parts) < len(compute):
            continue
        earlier = [_mean(store, key, moment, *_BEFORE) for key in its]
        before = [part for part in earlier if part is not None]
        found[rank] = RankPace(
            data=data, compute=sum(parts), before=sum(before) if len(before) == len(its) else None
        )
    return found


def _mean(store: SeriesStore, key: StreamKey, moment: float, first: float, last: float) -> float | None:
    """Of what was measured between two moments, so many seconds before one; None where that is too little."""
    columns = store.read(key, moment - first, moment - last)
    values = columns.mean[
        bisect_left(columns.time, moment - first) : bisect_right(columns.time, moment - last)
    ]
    values = [value for value in values if math.isfinite(value)]
    return sum(values) / len(values) if len(values) >= _POINTS else None
