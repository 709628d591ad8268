"""When a run is to be looked at again, and whether this process has slept through that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_USUAL = 1.0  # seconds between two looks at the clock, at most
_ASLEEP = 3.0  # seconds on top of these that say: this process itself was frozen


class Alarm:
    """Wakes the run at the time that its last decision names.

    Args:
        now: monotonic time.
        wake: is called then.
    """

    def __init__(self, now: Callable[[], float], wake: Callable[[], None]) -> None:
        self._now, self._wake = now, wake
        self._looked = now()
        self._timer: asyncio.TimerHandle | None = None

    def overslept(self) -> float:
        """Seconds for which this process was frozen since this was last asked; 0 where it was not."""
        before, self._looked = self._looked, self._now()
        asleep = self._looked - before - _USUAL
        return asleep if asleep > _ASLEEP else 0.0

    def set(self, until: float | None) -> None:
        """Wake it at this time, monotonic, and at no other; None: never."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if until is not None:
            wait = max(0.0, until - self._now()) + 0.01
            self._timer = asyncio.get_running_loop().call_later(wait, self._wake)
