"""What a plot shows, and where: curves, axes with round numbers, and how these are written. Pure."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from swarmtrain.protocol.series.points import Series

_PREFIXES = (
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
)
_SMALL_ONES = ("s", "W")  # of which people say thousandths
_SMALLEST = 1e-290  # of numbers that are told apart: below come those that a float holds in part
_TIMES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


class CurvePoint(NamedTuple):
    """A point of a curve; without values where nothing that was measured is a number."""

    x: float
    low: float | None
    mean: float | None
    high: float | None


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        bad: where something was measured that is no number.
    """

    label: str
    points: tuple[CurvePoint, ...]
    bad: tuple[float, ...] = ()


@dataclass(frozen=True)
class PlotAxis:
    """One axis.

    Attributes:
        ticks: where numbers stand, and what is written there.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def at(self, value: float) -> float:
        """Where a value is, from 0 to 1."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Chart:
    """Curves of one name over one axis."""

    title: str
    curves: tuple[Curve, ...]
    x: PlotAxis
    y: PlotAxis
    x_title: str


def charts(series: Sequence[Series], axis: str, *, ticks: int = 4) -> list[Chart]:
    """One chart for each name, with a curve for each of its series; none of those without a number.

    Args:
        axis: ``time``, ``step`` or ``samples``.
        ticks: about so many on each axis.
    """
    found = []
    for name in dict.fromkeys(each.name for each in series):
        its = [each for each in series if each.name == name and each.points]
        values = [
            edge
            for each in its
            for point in each.points
            for edge in (point.low, point.high)
            if edge is not None
        ]
        if not values:
            continue
        where = [point.x for each in its for point in each.points]
        unit = its[0].unit
        y = _axis(min(values), max(values), ticks, partial(said, unit=unit))
        if axis == "time":
            x = _time_axis(min(where), max(where), ticks)
        else:
            x = _axis(min(where), max(where), ticks, partial(said, unit=""), tight=True)
        title = f"{name} [{unit}]" if unit and unit != "ratio" else name
        found.append(Chart(title, tuple(map(_curve, its)), x, y, "" if axis == "time" else axis))
    return found


def _curve(series: Series) -> Curve:
    label = ",".join(f"{key} {value}" for key, value in series.labels.items()) or series.name
    points = tuple(CurvePoint(each.x, each.low, each.mean, each.high) for each in series.points)
    return Curve(label, points, tuple(each.x for each in series.points if each.bad))


# ---- numbers ---------------------------------------------------------------------------------------------------------


def said(value: float | None, unit: str) -> str:
    """A value with its unit, in four digits: ``12.5 ms``, ``1.2 GB/s``, ``37 %``."""
    if value is None:
        return "not a number"
    if unit == "ratio":
        return f"{value * 100:.3g} %"
    if unit in ("", "°C", "samples"):
        return _short(value)
    if unit in ("1/s", "samples/s"):
        return f"{_short(value)}{unit.removeprefix('1') if unit == '1/s' else f' {unit}'}"
    size = abs(value)
    for factor, prefix in _PREFIXES:
        if size >= factor and (factor >= 1 or unit in _SMALL_ONES):
            return f"{value / factor:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}"


def _short(value: float) -> str:
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    for factor, prefix in _PREFIXES[:3]:
        if abs(value) >= factor:
            return f"{value / factor:.4g}{prefix}"
    return f"{value:.4g}"


# ---- axes ------------------------------------------------------------------------------------------------------------


def _axis(
    low: float, high: float, ticks: int, say: Callable[[float], str], *, tight: bool = False
) -> PlotAxis:
    """An axis with round numbers; its ends are some of them, unless it is tight."""
    size = max(abs(low), abs(high))
    # What differs by less is one value: its marks could not be told apart, nor could a float hold them.
    if high - low <= max(size * 1e-9, _SMALLEST):
        room = size * 0.1 if size > _SMALLEST else 1.0
        low, high = low - room, high + room
    width = _round((high - low) / max(1, ticks))
    first, last = math.floor(low / width), math.ceil(high / width)
    marks = [number * width for number in range(first, last + 1)]
    if tight:
        marks = [each for each in marks if low <= each <= high]
    else:
        low, high = min(low, marks[0]), max(high, marks[-1])
    digits = max(0, 12 - math.ceil(math.log10(max(abs(low), abs(high), _SMALLEST))))
    return PlotAxis(low, high, tuple((each, say(round(each, min(digits, 300)))) for each in marks))


def _round(width: float) -> float:
    """The next of 1, 2, 5, 10 and so on."""
    power: float = 10.0 ** math.floor(math.log10(width))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= width * 0.999)


def _time_axis(low: float, high: float, ticks: int) -> PlotAxis:
    """An axis of Unix times, written as this machine's clock says them."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    wanted = (high - low) / max(1, ticks)
    width = next((each for each in _TIMES if each >= wanted), math.ceil(wanted / 86400) * 86400)
    marks = list(_moments(low, high, width))
    return PlotAxis(low, high, tuple((each, _clock(each, width)) for each in marks))


def _moments(low: float, high: float, width: float) -> Iterator[float]:
    shift = datetime.datetime.fromtimestamp(low).astimezone().utcoffset() or datetime.timedelta()
    away = shift.total_seconds()
    moment = math.ceil((low + away) / width) * width - away
    while moment <= high:
        yield moment
        moment += width


def _clock(moment: float, width: float) -> str:
    form = "%H:%M:%S" if width < 60 else "%H:%M" if width < 86400 else "%m-%d"
    return datetime.datetime.fromtimestamp(moment).strftime(form)
