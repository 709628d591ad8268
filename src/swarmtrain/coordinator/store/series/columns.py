"""Points of one series, each field a list of its own; and how such columns are thinned. Pure.

Thinning is honest: of the points that become one, the least, the mean and the greatest value stay, how many they were,
and how many of them were no finite numbers. It is the same whether it is done at once or in several rounds.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter, mul

NO_STEP = -1


@dataclass
class Spread:
    """What stands for several points beside their mean.

    Attributes:
        count: how many points they are.
        bad: how many of these are not finite: they are in none of the other columns.
    """

    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    count: list[int] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)


@dataclass
class Columns:
    """Points in the order in which they came.

    Attributes:
        time: Unix time by the run's clock, never less than that of the point before.
        step: of the training, `NO_STEP` where it has none.
        mean: the value; NaN where a thinned point has none that is finite.
        spread: None where each point is as it was measured.
    """

    time: list[float] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    spread: Spread | None = None

    def __len__(self) -> int:
        return len(self.time)

    def measured(self) -> int:
        """Of how many points these tell."""
        return len(self.time) if self.spread is None else sum(self.spread.count)

    def append(self, time: float, step: int, value: float) -> None:
        """Add a point as it was measured."""
        self.time.append(max(time, self.time[-1]) if self.time else time)
        self.step.append(step)
        self.mean.append(value)

    def part(self, begin: int, end: int) -> Columns:
        """The points from one place to before another."""
        spread = self.spread
        if spread is not None:
            spread = Spread(
                spread.low[begin:end], spread.high[begin:end], spread.count[begin:end], spread.bad[begin:end]
            )
        return Columns(self.time[begin:end], self.step[begin:end], self.mean[begin:end], spread)

    def chosen(self, places: Sequence[int]) -> Columns:
        """The points at these places, in this order."""
        if not places:
            return Columns()
        if len(places) == 1:
            return self.part(places[0], places[0] + 1)
        get = itemgetter(*places)
        spread = self.spread
        if spread is not None:
            spread = Spread(
                list(get(spread.low)), list(get(spread.high)), list(get(spread.count)), list(get(spread.bad))
            )
        return Columns(list(get(self.time)), list(get(self.step)), list(get(self.mean)), spread)


def spread_of(columns: Columns) -> Spread:
    """The spread of columns, also of points that are as they were measured."""
    if columns.spread is not None:
        return columns.spread
    good = [math.isfinite(value) for value in columns.mean]
    finite = [value if it else math.nan for value, it in zip(columns.mean, good, strict=True)]
    return Spread(finite, finite, [1] * len(good), [0 if it else 1 for it in good])


def joined(parts: Sequence[Columns]) -> Columns:
    """Points one after the other: as they were measured if all of them are."""
    parts = [part for part in parts if part.time]
    if len(parts) == 1:
        return parts[0]
    whole = Columns()
    if any(part.spread is not None for part in parts):
        whole.spread = Spread()
    for part in parts:
        whole.time += part.time
        whole.step += part.step
        if whole.spread is None:
            whole.mean += part.mean
            continue
        spread = spread_of(part)
        # A mean is finite or NaN, also where the point was measured as an infinity.
        whole.mean += part.mean if part.spread is not None else spread.low
        whole.spread.low += spread.low
        whole.spread.high += spread.high
        whole.spread.count += spread.count
        whole.spread.bad += spread.bad
    return whole


def thinned(columns: Columns, begins: Sequence[int]) -> Columns:
    """One point for each stretch of them; it stands where the first of the stretch stood.

    Args:
        begins: the places at which stretches begin; the first is 0.
    """
    if not begins:
        return Columns(spread=Spread())
    merge = _measured(columns.mean) if columns.spread is None else _merged(columns.mean, columns.spread)
    mean, low, high, count, bad = zip(*map(merge, begins, [*begins[1:], len(columns)]), strict=True)
    return Columns(
        [columns.time[at] for at in begins],
        [columns.step[at] for at in begins],
        list(mean),
        Spread(list(low), list(high), list(count), list(bad)),
    )


def stretches(where: Sequence[float], width: float) -> list[int]:
    """The places of the points that are the first between two multiples of ``width``.

    Args:
        where: each point stands, in ascending order.
    """
    begins, at = list[int](), 0
    while at < len(where):
        begins.append(at)
        at = bisect_left(where, (where[at] // width + 1) * width, at + 1)
    return begins


_Merge = Callable[[int, int], "tuple[float, float, float, int, int]"]


def _measured(values: list[float]) -> _Merge:
    """How points are merged that are as they were measured."""

    def merge(begin: int, end: int) -> tuple[float, float, float, int, int]:
        part, count = values[begin:end], end - begin
        if part.count(part[0]) == count and math.isfinite(part[0]):
            return part[0], part[0], part[0], count, 0
        total, bad = sum(part), 0
        if not math.isfinite(total):  # some value is not, or they are too large to be added
            part = [each for each in part if math.isfinite(each)]
            bad = count - len(part)
            if not part:
                return math.nan, math.nan, math.nan, count, bad
            mean = math.fsum(each / len(part) for each in part)
            return _within(mean, min(part), max(part), count, bad)
        return _within(total / count, min(part), max(part), count, bad)

    return merge


def _merged(means: list[float], spread: Spread) -> _Merge:
    """How points are merged that were thinned before."""

    def merge(begin: int, end: int) -> tuple[float, float, float, int, int]:
        counts, bad = spread.count[begin:end], sum(spread.bad[begin:end])
        count = sum(counts)
        if not bad and math.isfinite(total := sum(map(mul, means[begin:end], counts))):
            low, high = min(spread.low[begin:end]), max(spread.high[begin:end])
            return _within(total / count, low, high, count, bad)
        if count == bad:
            return math.nan, math.nan, math.nan, count, bad
        told = [at for at in range(begin, end) if spread.count[at] > spread.bad[at]]
        weights = ((spread.count[at] - spread.bad[at]) / (count - bad) for at in told)
        mean = math.fsum(means[at] * weight for at, weight in zip(told, weights, strict=True))
        low, high = min(spread.low[at] for at in told), max(spread.high[at] for at in told)
        return _within(mean, low, high, count, bad)

    return merge


def _within(
    mean: float, low: float, high: float, count: int, bad: int
) -> tuple[float, float, float, int, int]:
    """A mean that rounding has not carried out of its bounds."""
    return low if mean < low else high if mean > high else mean, low, high, count, bad
