"""A run as live screens show it: what is known of it at a moment, and what follows from that. Pure.

`control.look.feed` brings a `RunOverview`. How far its training is, progress.py says, and how its ranks, nodes and GPUs
are, rows.py. `ui/top` draws them in a terminal. A value that is missing is None everywhere, never zero.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from swarmtrain.protocol.evidence.diagnosis import Diagnosis
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.replies import Line
from swarmtrain.protocol.series.points import Series
from swarmtrain.protocol.status import Status


@dataclass(frozen=True)
class RunOverview:
    """What is known of a run at one moment.

    Attributes:
        diagnosis: what is wrong with it; None where nobody could say.
        events: all of them, in order.
        lines: the last that its ranks wrote, or those ranks that were asked for.
        curves: series of one rank, with points in the order of time.
        values: series with what they are now alone: the newest value, or the mean of some seconds.
        notice: a word about the connection itself, or about what keeps the run from its place; empty when all is well.
    """

    status: Status
    diagnosis: Diagnosis | None = None
    events: tuple[Event, ...] = ()
    lines: tuple[Line, ...] = ()
    curves: tuple[Series, ...] = ()
    values: tuple[Series, ...] = ()
    notice: str = ""

    def curve(self, name: str) -> Series | None:
        """The series of that name with its points."""
        return next((each for each in self.curves if each.name == name), None)


class NewestValues:
    """The newest values of series, by name and by what a label says."""

    def __init__(self, series: Collection[Series], label: str) -> None:
        self._found: dict[tuple[str, str], float] = {
            (each.name, each.labels[label]): each.value
            for each in series
            if each.value is not None and label in each.labels
        }

    def of(self, name: str, which: object) -> float | None:
        """One of them; None where it was not measured."""
        return self._found.get((name, str(which)))


def reported(overview: RunOverview) -> Mapping[str, float]:
    """What the training tells of itself, by name: of the first rank that tells it."""
    found: dict[str, tuple[int, float]] = {}
    for each in overview.values:
        if each.value is None or not each.name.startswith(("train/", "eval/")):
            continue
        rank = int(each.labels.get("rank", 0))
        if each.name not in found or rank < found[each.name][0]:
            found[each.name] = (rank, each.value)
    return {name: value for name, (_, value) in sorted(found.items())}


def measured(values: Iterable[float | None]) -> list[float]:
    """Those that were measured."""
    return [value for value in values if value is not None]
