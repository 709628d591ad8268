"""Which points of a run's series a person asks for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from swarmtrain.protocol.requests import SeriesRequest


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
