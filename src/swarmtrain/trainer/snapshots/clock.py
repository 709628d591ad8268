"""One clock for all ranks: what is due by time, or asked for on any rank, is found at the same step by all.

Asking at every step would cost an exchange a step. With each answer rank 0 names the step of the next question
instead, a fraction of a second ahead. Called by ``manager``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from swarmtrain.trainer.distributed import World, greatest
from swarmtrain.wire.clock import MACHINE, Clock

_INTERVAL = 0.25  # seconds between two questions
_MOST_STEPS = 64  # between two questions, whatever the pace was: it may fall


class SharedClock:
    """Asked once after every step, on all ranks.

    Args:
        seconds: how often each named thing is due by rank 0's clock.
        wishes: names to what tells whether this rank wishes it now; due everywhere when any rank does.
        clock: of this machine.
    """

    def __init__(
        self,
        world: World,
        seconds: Mapping[str, float | None],
        wishes: Mapping[str, Callable[[], bool]],
        clock: Clock = MACHINE,
    ) -> None:
        self._world, self._clock = world, clock
        self._seconds = {name: value for name, value in seconds.items() if value is not None}
        self._wishes = dict(wishes)
        now = self._clock.monotonic()
        self._since = dict.fromkeys(self._seconds, now)
        self._not_before = dict.fromkeys(self._seconds, now)
        self._asked: tuple[float, int] | None = None  # when, and at which step, the last question was asked
        self._ahead = 1
        self._next_step = 0

    def due(self, step: int) -> set[str]:
        """What is due now that ``step`` steps are made."""
        if not (self._seconds or self._wishes) or step < self._next_step:
            return set()
        now = self._clock.monotonic()
        ahead = 0
        if self._world.leads:
            ahead = self._steps_ahead(step, now)
        mine = [
            self._world.leads and now >= max(self._since[name] + seconds, self._not_before[name])
            for name, seconds in self._seconds.items()
        ]
        mine += [wish() for wish in self._wishes.values()]
        ahead, *found = greatest(self._world, torch.tensor([ahead, *mine], dtype=torch.int64)).tolist()
        self._next_step = step + (ahead if self._world.size > 1 else 1)
        self._asked, self._ahead = (now, step), ahead
        names = [*self._seconds, *self._wishes]
        return {name for name, due in zip(names, found, strict=True) if due}

    def _steps_ahead(self, step: int, now: float) -> int:
        """How many steps to the next question. By the pace since the last one, of which a resume is no part.

        It doubles at most, as the first steps may be quick and the others not.
        """
        if self._asked is None:
            return 1
        since, then = self._asked
        pace = (now - since) / max(1, step - then)
        interval = min([_INTERVAL, *self._seconds.values()])
        return min(_MOST_STEPS, 2 * self._ahead, max(1, int(interval / max(pace, 1e-6))))

    def reset(self, name: str) -> None:
        """``name`` has just been done."""
        if name in self._since:
            self._since[name] = self._clock.monotonic()

    def put_off(self, name: str, seconds: float) -> None:
        """``name`` is not due again within ``seconds``, by rank 0's word."""
        if name in self._not_before:
            self._not_before[name] = self._clock.monotonic() + seconds
