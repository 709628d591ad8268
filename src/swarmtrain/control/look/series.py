"""What was measured of a run, asked for; and which points of it a person wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.requests import SeriesRequest
from swarmtrain.protocol.series.points import Series

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Launcher, Run


@dataclass(frozen=True)
class SeriesRange:
    """A part of a run's series; all of them, to their newest points, by default.

    Args:
        ranks, nodes: of these alone.
        x: where a point stands: Unix time, the training's steps, or the samples that it has had.
        start, end: of the range on that axis, both included; a negative time is so many seconds ago.
        most: points of a series at most: what lies close together becomes one, with its least, mean and greatest value.
            0: all that are kept.
        repeated: also the steps that were made again later, after a failure.
    """

    ranks: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    x: Literal["time", "step", "samples"] = "time"
    start: float | None = None
    end: float | None = None
    most: int = 1000
    repeated: bool = field(default=False, kw_only=True)

    def request(self, names: Sequence[str], *, points: bool) -> SeriesRequest:
        """As the coordinator is asked for them."""
        return SeriesRequest(
            tuple(names),
            self.ranks,
            self.nodes,
            points=points,
            x=self.x,
            start=self.start,
            end=self.end,
            most=self.most,
            repeated=self.repeated,
        )


def ask_for_series(
    launcher: Launcher, run: Run, names: Sequence[str], within: SeriesRange | None, *, points: bool
) -> list[Series]:
    """The series that these patterns name, in the order of their names; see `RunHandle.series`."""
    with launcher.connect(run) as link:
        replies = ask(link, (within or SeriesRange()).request(names, points=points))
        return [reply.series for reply in replies if reply.series is not None]
