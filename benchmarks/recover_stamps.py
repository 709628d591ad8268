"""When all ranks of a training had made a step, read from what `recover_train.py` wrote."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stamp:
    """One rank has made one step."""

    t: float
    attempt: int
    rank: int
    world: int
    step: int
    pid: int
    place: int  # which of the directories: the node


@dataclass(frozen=True)
class Whole:
    """All ranks of an attempt have made a step; `t` is when the last of them had."""

    t: float
    attempt: int
    world: int
    step: int


class Stuck(Exception):
    """A training did not come to the point from which something could be measured."""


class Log:
    """The steps of one training.

    Args:
        directories: one for each node, as the training's `STAMPS`.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self._files = [directory / "steps" for directory in directories]

    def stamps(self) -> list[Stamp]:
        found = []
        for place, file in enumerate(self._files):
            lines = file.read_text().split("\n")[:-1] if file.exists() else []
            for line in lines:
                t, attempt, rank, world, step, pid = line.split()
                found.append(Stamp(float(t), int(attempt), int(rank), int(world), int(step), int(pid), place))
        return found

    def whole(self) -> list[Whole]:
        """The steps that all ranks made, in the order of time."""
        by_step: dict[tuple[int, int], list[Stamp]] = {}
        for stamp in self.stamps():
            by_step.setdefault((stamp.attempt, stamp.step), []).append(stamp)
        steps = [
            Whole(max(stamp.t for stamp in made), attempt, made[0].world, step)
            for (attempt, step), made in by_step.items()
            if len({stamp.rank for stamp in made}) == made[0].world
        ]
        return sorted(steps, key=lambda whole: whole.t)

    def steady(self, world: int, seconds: float, patience: float, alive: Callable[[], object]) -> Whole:
        """Wait until one attempt of that many ranks has been stepping for a while; its newest step.

        Args:
            alive: called now and then; raises when there is nothing to wait for.

        Raises:
            Stuck: it does not within `patience` seconds.
        """
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            steps = self.whole()
            if steps and steps[-1].world == world:
                first = next(step for step in steps if step.attempt == steps[-1].attempt)
                if steps[-1].t - first.t >= seconds and time.time() - steps[-1].t < 1:
                    return steps[-1]
            alive()
            time.sleep(0.3)
        raise Stuck(f"no steady training within {patience:g} s: {self.whole()[-1:]}")

    def next_attempt(self, last: Whole, patience: float, world: int | None = None) -> Whole | None:
        """Wait for the first step of all ranks of a later attempt than that of `last`; None if there is none.

        Args:
            world: only of attempts with that many ranks.
        """
        deadline = time.monotonic() + patience
        while True:
            later = (step for step in self.whole() if step.attempt > last.attempt)
            following = next((step for step in later if world in (None, step.world)), None)
            if following:
                return following
            if time.monotonic() > deadline:
                return None
            time.sleep(0.2)

    def last_of(self, attempt: int) -> Whole:
        """The last step that all ranks of an attempt made."""
        return [step for step in self.whole() if step.attempt == attempt][-1]

    def worker_at(self, place: int) -> Stamp:
        """The newest stamp of a rank on a node."""
        return max((stamp for stamp in self.stamps() if stamp.place == place), key=lambda stamp: stamp.t)


def largest_gap(steps: Sequence[Whole], begin: float, end: float) -> float:
    """Seconds between two steps that follow each other, the longest in a time."""
    times = [begin, *(step.t for step in steps if begin <= step.t <= end), end]
    return max(late - early for early, late in itertools.pairwise(times))
