"""How far a run's training is, how long the rest takes, and where the time of a step goes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from swarmtrain.control.look.overview import NewestValues, RunOverview, measured, reported
from swarmtrain.control.views.format import duration, number
from swarmtrain.protocol.series.points import Series, SeriesPoint

PARTS = ("data", "forward", "backward", "communication", "optimizer")  # of a step, in their order
_PACE_SECONDS = 60.0  # over which steps are counted at least, where there are so many


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is.

    Attributes:
        total_steps, total_epochs: its goal, where it tells that.
        share: of it that is done, from 0 to 1.
        steps_per_second: by the clock, with all that happens between steps.
        samples_per_second: of all ranks, by the clock, too, where the training counts them from its beginning.
        seconds_left: at this pace.
    """

    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    total_epochs: float | None = None
    share: float | None = None
    steps_per_second: float | None = None
    samples_per_second: float | None = None
    seconds_left: float | None = None


def progress(overview: RunOverview) -> TrainingProgress:
    """How far the training is, and how long the rest takes at the pace of the last minute or more."""
    status, told = overview.status, reported(overview)
    total, epochs = (
        goal if goal is not None and goal > 0.0 else None
        for goal in (told.get("train/total_steps"), told.get("train/total_epochs"))
    )
    epoch = status.epoch if status.epoch is not None else told.get("train/epoch")
    step, end, share = status.step, total, None
    if total and step is not None:
        share = min(1.0, step / total)
    elif epochs and epoch is not None:
        share = min(1.0, epoch / epochs)
        end = step / share if step is not None and share > 0.0 else None
    pace = None if status.has_ended else _pace(overview)
    left = None
    if end and pace and step is not None:
        left = max(0.0, end - step) / pace.steps
    return TrainingProgress(
        step=status.step,
        total_steps=None if total is None else int(total),
        epoch=epoch,
        total_epochs=epochs,
        share=share,
        steps_per_second=None if pace is None else pace.steps,
        samples_per_second=None if pace is None else pace.samples or told.get("train/samples_per_second"),
        seconds_left=left,
    )


def in_words(found: TrainingProgress) -> list[str]:
    """``step 120 of 324``, ``epoch 1.2 of 3``, ``about 4 min left``: what is known of these."""
    words = []
    if found.step is not None:
        words.append(f"step {found.step}" + (f" of {found.total_steps}" if found.total_steps else ""))
    if found.epoch is not None:
        of = f" of {number(found.total_epochs)}" if found.total_epochs else ""
        words.append(f"epoch {number(found.epoch)}{of}")
    if found.seconds_left is not None:
        words.append(f"about {duration(found.seconds_left)} left")
    return words


class _Pace(NamedTuple):
    """What is done in a second, by the clock."""

    steps: float
    samples: float | None


def _pace(overview: RunOverview) -> _Pace | None:
    """Over the last minute at least, or what there is of the generation; None where nobody counts steps."""
    steps = _rise(overview.curve("train/step_seconds"), lambda point: point.step)
    samples = _rise(overview.curve("train/samples"), lambda point: point.mean)
    if steps is None and overview.status.step_seconds:
        steps = 1.0 / overview.status.step_seconds
    return None if steps is None else _Pace(steps, samples)


def _rise(curve: Series | None, of: Callable[[SeriesPoint], float | None]) -> float | None:
    """By how much a count has grown in a second lately."""
    points = [point for point in curve.points if of(point) is not None] if curve is not None else []
    if not points:
        return None
    last = begin = points[-1]
    for point in reversed(points):
        if point.generation != last.generation:
            break
        begin = point
        if last.time - point.time >= _PACE_SECONDS:
            break
    seconds, count = last.time - begin.time, (of(last) or 0.0) - (of(begin) or 0.0)
    return count / seconds if seconds > 0.0 and count > 0.0 else None


def by_steps(curve: Series, most: int) -> list[SeriesPoint]:
    """A curve over its steps: the means of at most so many stretches of the same length, in ascending order."""
    points = [point for point in curve.points if point.step is not None and point.mean is not None]
    steps = [point.step or 0 for point in points]
    if not points:
        return []
    low, span = min(steps), max(steps) - min(steps) + 1
    stretches: dict[int, list[SeriesPoint]] = {}
    for point, step in zip(points, steps, strict=True):
        stretches.setdefault((step - low) * most // span, []).append(point)
    return [_one_of(stretches[at]) for at in sorted(stretches)]


def _one_of(points: Sequence[SeriesPoint]) -> SeriesPoint:
    weights = [max(1, point.points - point.bad) for point in points]
    mean = sum((point.mean or 0.0) * weight for point, weight in zip(points, weights, strict=True)) / sum(
        weights
    )
    middle = sum(point.step or 0 for point in points) / len(points)
    return points[-1]._replace(x=middle, low=mean, mean=mean, high=mean)


@dataclass(frozen=True)
class StepParts:
    """Where the time of a step goes: means over the ranks, in seconds.

    Attributes:
        seconds: of the whole step; None where nobody measures it.
        parts: of those that are known, by name; what is left is ``other``.
    """

    seconds: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)


def step_parts(overview: RunOverview, ranks: Collection[int] = ()) -> StepParts:
    """Where a step's time goes, of these ranks or of all."""
    values = NewestValues(overview.values, "rank")
    wanted = [each.rank for each in overview.status.workers if not ranks or each.rank in ranks]
    means: dict[str, float] = {}
    for part in ("step", *PARTS):
        if found := measured(values.of(f"train/{part}_seconds", rank) for rank in wanted):
            means[part] = sum(found) / len(found)
    whole = means.pop("step", overview.status.step_seconds)
    if means and whole is not None and (other := whole - sum(means.values())) > 0.0:
        means["other"] = other
    return StepParts(whole, means)
