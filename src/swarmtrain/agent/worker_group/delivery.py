"""What the workers of this node wrote, on its way to the coordinator; the group says of which, and when they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from swarmtrain.agent.measure import files as measurements
from swarmtrain.agent.uplink import Background
from swarmtrain.agent.worker_group.tails import Key, Tails, measured_key

_SECONDS = 5.0  # in which an agent that is about to go delivers what its workers wrote


class Delivery:
    """The files of one node, from all generations that it has seen.

    Args:
        background: in which it waits for them to arrive.

    Attributes:
        tails: carry the files, over one connection after the other.
        past: what an agent before this one has left to deliver is on its way, too.
        complete: no worker is left, and everything that was ever written here has arrived at the coordinator that
            this agent is joined to.
    """

    def __init__(self, background: Background) -> None:
        self._background = background
        self.tails = Tails()
        self.past = asyncio.Event()
        self.complete = False
        self._known: dict[Key, int] = {}  # how much of each file the coordinator has, when it was last asked
        self._waiting: asyncio.Task[None] | None = None  # until everything has arrived

    def known(self, offsets: dict[Key, int]) -> None:
        """How much of each file the coordinator has."""
        self._known = offsets

    def resume(self, output: Path) -> None:
        """Begin to carry what the coordinator does not have, also of workers of an agent before this one."""
        for path in output.glob("g*-r*.*"):
            kind = {".out": "output", ".metrics": "metrics"}.get(path.suffix)
            generation, _, rank = path.stem[1:].partition("-r")
            if kind is None or not generation.isdecimal() or not rank.isdecimal():
                continue
            self.tails.resume((kind, int(generation), int(rank)), path)
        for number in measurements.numbers(output):
            self.tails.resume(measured_key(number), measurements.file_of(output, number))
        self.tails.rewind(self._known)
        self.past.set()

    def begin(self, idle: Callable[[], Awaitable[object]], arrived: Callable[[], None]) -> None:
        """Wait for everything to arrive; what was said before was true of less, or of another coordinator.

        Args:
            idle: returns when no worker is left.
            arrived: is called when all of it has arrived.
        """
        self.complete = False
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = self._background.run(self._wait(idle, arrived))

    async def _wait(self, idle: Callable[[], Awaitable[object]], arrived: Callable[[], None]) -> None:
        await idle()
        await self.past.wait()
        await self.tails.drained()
        self.complete = True
        arrived()

    async def wait(self) -> None:
        """Until everything that was ever written here has arrived, for some seconds at most."""
        waited, until = None, time.monotonic() + _SECONDS
        while self._waiting is not None and self._waiting is not waited:
            waited = self._waiting
            await asyncio.wait([waited], timeout=max(0.0, until - time.monotonic()))
            # A connection that was made meanwhile has begun another one.
