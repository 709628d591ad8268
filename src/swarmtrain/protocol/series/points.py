"""Series and their points, as clients get them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, NamedTuple

from swarmtrain.protocol.schema import OMITTED, Struct


class SeriesPoint(NamedTuple):
    """One point, or what stands for several: the first of them says where.

    Attributes:
        x: on the axis that was asked for.
        time: Unix time by the run's clock.
        step: of the training; null where it has none.
        generation: that told it; 0 for what a node measures of itself.
        low, mean, high: of the values that are finite; null where none is.
        points: how many were measured.
        bad: how many of these were NaN or infinite.
    """

    x: float
    time: float
    step: int | None
    generation: int
    low: float | None
    mean: float | None
    high: float | None
    points: int = 1
    bad: int = 0


class Series(Struct):
    """One series of a run.

    Attributes:
        name: what is measured: `docs/metrics.md` has them.
        labels: of which: ``rank``, ``node``, ``interface``, ``device``, ``gpu``, ``peer``.
        unit: of its values; empty where that is a plain number, or nobody knows.
        nodes: on which it was told.
        time, step, value: of the newest point; no value where that is not finite.
        points: where they were asked for.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    nodes: Annotated[list[str], OMITTED] = field(default_factory=list)
    time: float | None = None
    step: int | None = None
    value: float | None = None
    points: Annotated[list[SeriesPoint], OMITTED] = field(default_factory=list)

    def __str__(self) -> str:
        told = ",".join(f"{key}={value}" for key, value in self.labels.items())
        return f"{self.name}{{{told}}}" if told else self.name
