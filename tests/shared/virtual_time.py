"""A loop in which waiting takes no time: whenever nothing is to be read or written, its clock jumps to the next timer.

For tests of deadlines between sockets of one process: how loaded the machine is changes nothing. While a thread works
for the loop its clock goes as others do, so that no deadline passes in the moment that a file takes. The ``time``
module goes on as ever.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")

_ON_ITS_WAY = 0.001  # real seconds in which what was sent by loopback is there to be read


class _Selector(selectors.DefaultSelector):
    waited = 0.0
    threads = 0  # at work for the loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.threads:
            began = time.monotonic()
            ready = super().select(timeout)
            self.waited += time.monotonic() - began
            return ready
        # Beside the loop's own end of a pipe: without any other nothing can be on its way.
        others = len(self.get_map()) > 1
        ready = super().select(_ON_ITS_WAY if timeout is None or (timeout > 0 and others) else 0)
        if not ready and timeout is not None:
            self.waited += max(0.0, timeout)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.waited

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        self._clock.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: object) -> None:
        self._clock.threads -= 1


def run(main: Coroutine[Any, Any, T]) -> T:
    """As ``asyncio.run``."""
    loop = _Loop()
    try:
        return loop.run_until_complete(main)
    finally:
        for task in (left := asyncio.all_tasks(loop)):
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def now() -> float:
    """Seconds by the running loop's clock."""
    return asyncio.get_running_loop().time()
