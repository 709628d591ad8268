"""When a client last asked, after which a coordinator whose run is over is let go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

T = TypeVar("T")


class LastAsked:
    """The last question of any client, or the last answer that it took.

    Args:
        now: the monotonic clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last = now()
        self._answering = 0

    @property
    def time(self) -> float:
        """By the monotonic clock; now, while an answer is being made, for which a node may take long."""
        return self._now() if self._answering else self._last

    def note(self) -> None:
        """Somebody asks."""
        self._last = self._now()

    async def answering(self, replies: AsyncIterator[T]) -> AsyncIterator[T]:
        """The same replies. A client that does not take one is not waited for."""
        while True:
            self._answering += 1
            try:
                reply = await anext(replies)
            except StopAsyncIteration:
                return
            finally:
                self._answering -= 1
                self.note()
            yield reply
            self.note()
