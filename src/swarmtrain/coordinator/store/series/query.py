"""What clients ask of the series: which of them, in which range, on which axis, how fine.

`Query` is asked by coordinator/clients/requests.py. It reads nothing before `answers` is iterated, which may happen in
a thread.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate

from swarmtrain.coordinator.store.series.columns import NO_STEP, Columns, spread_of, stretches, thinned
from swarmtrain.coordinator.store.series.segment import StreamKey
from swarmtrain.coordinator.store.series.store import COUNTED, SeriesStore
from swarmtrain.protocol.requests import SeriesRequest
from swarmtrain.protocol.series.points import Series, SeriesPoint
from swarmtrain.protocol.series.table import unit_of
from swarmtrain.wire.metrics import Labels, called

_ROUND = (1, 2, 5, 10, 15, 30)  # of which times a power of 60, or of 10, points are apart
# of which a generation may tell nothing, though it makes their steps again
_MADE_AGAIN = ("eval/", "snapshot/")

_One = tuple[str, Labels]  # a series: its name and its labels


class Query:
    """A question to a store, at one moment.

    Args:
        now: Unix time by the run's clock.
    """

    def __init__(self, store: SeriesStore, request: SeriesRequest, now: float) -> None:
        self._store, self._request = store, request
        self._last, self._starts = store.last(), store.starts()
        self._begin, self._end = (
            edge if edge is None or edge >= 0 or request.x != "time" else now + edge
            for edge in (request.start, request.end)
        )
        self._chosen = self._choose()
        self._counts: dict[int, tuple[list[int], list[float]]] = {}  # steps and samples of a generation

    def answers(self) -> Iterator[Series]:
        """The series that fit, each with its points; one that has none in this range is left out."""
        for (name, labels), keys in sorted(self._chosen.items()):
            time, step, value = max(self._last[key] for key in keys)
            series = Series(
                name,
                dict(labels),
                unit_of(name),
                sorted({key.node for key in keys}),
                time,
                None if step == NO_STEP else step,
                value if math.isfinite(value) else None,
                self._points(keys) if self._request.points else [],
            )
            if series.points or not self._request.points:
                yield series

    # ---- which -----------------------------------------------------------------------------------------------

    def _choose(self) -> dict[_One, list[StreamKey]]:
        wanted, found = self._request, dict[_One, list[StreamKey]]()
        names = [re.compile(translate(each)).match for each in wanted.names]
        labels = {key: re.compile(translate(each)).match for key, each in wanted.labels.items()}
        ranks = {str(rank) for rank in wanted.ranks}
        for key in self._last:
            its = dict(key.labels)
            if (
                (not ranks or its.get("rank") in ranks)
                and (not wanted.nodes or key.node in wanted.nodes)
                and all(label in its and fits(its[label]) for label, fits in labels.items())
                and (not names or any(it(key.name) or it(called(*key[:2])) for it in names))
            ):
                found.setdefault(key[:2], []).append(key)
        return {one: sorted(keys, key=lambda key: (key.generation, key.node)) for one, keys in found.items()}

    # ---- their points ----------------------------------------------------------------------------------------

    def _points(self, keys: Sequence[StreamKey]) -> list[SeriesPoint]:
        parts: list[tuple[int, list[float], Columns]] = []
        void = math.inf  # from this step on a later generation has told it anew
        for key in reversed(keys):
            by_time = self._request.x == "time"
            begin = self._begin if by_time and self._begin is not None else 0.0
            columns = self._store.read(
                key, begin, self._end if by_time and self._end is not None else math.inf
            )
            if not self._request.repeated:
                columns = _before(columns, min(void, self._void(key)))
                first = self._store.first_step(key)
                void = void if first is None else min(void, first)
            parts.append((key.generation, *self._within(*self._on_axis(key, columns))))
        parts.reverse()
        width = self._request.every or self._width([where for _, where, _ in parts])
        found: list[SeriesPoint] = []
        for generation, where, columns in parts:
            found += _told(generation, where, columns, width)
        return found if self._request.x != "time" else sorted(found, key=lambda point: point.time)

    def _void(self, key: StreamKey) -> float:
        """The first step that a later generation made again, for what is told of now and then only."""
        if not key.name.startswith(_MADE_AGAIN):
            return math.inf
        later = (first for generation, first in self._starts.items() if generation > key.generation)
        return min(later, default=math.inf)

    def _on_axis(self, key: StreamKey, columns: Columns) -> tuple[list[float], Columns]:
        """Where each point stands, in ascending order; those that do not are left out."""
        if self._request.x == "time":
            return columns.time, columns
        places = [at for at, step in enumerate(columns.step) if step != NO_STEP]
        if len(places) < len(columns):
            columns = columns.chosen(places)
        if any(after < before for before, after in zip(columns.step, columns.step[1:])):  # noqa: B905
            columns = columns.chosen(sorted(range(len(columns)), key=columns.step.__getitem__))
        if self._request.x == "step":
            return list(map(float, columns.step)), columns
        steps, samples = self._samples(key.generation)
        if not steps:
            return [], Columns()
        return [_between(step, steps, samples) for step in columns.step], columns

    def _samples(self, generation: int) -> tuple[list[int], list[float]]:
        """How many samples the training had had at some of a generation's steps."""
        if generation not in self._counts:
            keys = [key for key in self._last if key.name == COUNTED and key.generation == generation]
            counted = self._store.read(min(keys, key=lambda key: key.labels)) if keys else Columns()
            spread = spread_of(counted)  # a thinned point stands at the first, whose value is the least
            self._counts[generation] = (counted.step, spread.low)
        return self._counts[generation]

    def _within(self, where: list[float], columns: Columns) -> tuple[list[float], Columns]:
        begin = 0 if self._begin is None else bisect_left(where, self._begin)
        end = len(where) if self._end is None else bisect_right(where, self._end)
        if (begin, end) == (0, len(where)):
            return where, columns
        return where[begin:end], columns.part(begin, max(begin, end))

    def _width(self, parts: Iterable[Sequence[float]]) -> float:
        """How far apart points are, so that there are not too many; 0 where all may stay."""
        most, parts = self._request.most, [where for where in parts if where]
        if most <= 0 or sum(map(len, parts)) <= most:
            return 0.0
        span = max(where[-1] for where in parts) - min(where[0] for where in parts)
        # A stretch may be cut where a generation ends, and at both of its edges.
        return _rounded(span / max(1, most - 2 * len(parts)), by=60 if self._request.x == "time" else 10)


def _told(generation: int, where: Sequence[float], columns: Columns, width: float) -> Iterator[SeriesPoint]:
    """The points of a stream, thinned where there is a width."""
    if not where:
        return
    if width:
        begins = stretches(where, width)
        where, columns = [where[at] for at in begins], thinned(columns, begins)
    spread = spread_of(columns)
    for x, time, step, mean, low, high, count, bad in zip(
        where,
        columns.time,
        columns.step,
        columns.mean,
        spread.low,
        spread.high,
        spread.count,
        spread.bad,
        strict=True,
    ):
        is_told = count > bad
        yield SeriesPoint(
            x,
            time,
            None if step == NO_STEP else step,
            generation,
            low if is_told else None,
            mean if is_told else None,
            high if is_told else None,
            count,
            bad,
        )


def _before(columns: Columns, void: float) -> Columns:
    """The points of steps below one, and those of no step."""
    if void == math.inf:
        return columns
    places = [at for at, step in enumerate(columns.step) if step < void]
    return columns if len(places) == len(columns) else columns.chosen(places)


def _between(step: int, steps: Sequence[int], values: Sequence[float]) -> float:
    """The value at a step, on the line between those beside it; beyond the last on the line of the last two."""
    at = min(max(bisect_left(steps, step), 1), len(steps) - 1)
    if len(steps) == 1 or steps[at] == steps[at - 1]:
        return values[0]
    slope = (values[at] - values[at - 1]) / (steps[at] - steps[at - 1])
    return values[at - 1] + slope * (step - steps[at - 1])


def _rounded(width: float, by: int) -> float:
    """The next width that people count in: 1, 2, 5, 10, 15 or 30 of seconds, minutes and so on; or of steps."""
    unit = 1.0
    while unit * by < width:
        unit *= by
    while unit > width and by == 10:
        unit /= by
    return next(each * unit for each in (*_ROUND, by) if each * unit >= width or each == by)
