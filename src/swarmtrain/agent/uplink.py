"""The agent's line to its coordinator, while there is one: what the parts of an agent say goes out here.

Session.py opens it. What is said when nobody hears it is lost; what matters is said again when it opens.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from swarmtrain.agent import network
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.from_agent import Beat, FromAgent, NoteReport, PulseReport, TroubleReport
from swarmtrain.wire.channel import Channel

SILENCE = 5.0  # seconds without an answer to any beat after which the coordinator is looked for anew


class Uplink:
    """What the parts of an agent speak through.

    Args:
        notes: kinds and sentences for the journal, which wait for the first connection.

    Attributes:
        channel: to the coordinator, once it has welcomed this agent; None while there is none.
        choice: the interface through which this node talks, once it is known.
        troubled: this agent cannot do its part.
    """

    def __init__(self, notes: Iterable[tuple[str, str]] = ()) -> None:
        self.channel: Channel | None = None
        self.choice: network.Choice | None = None
        self.troubled = asyncio.Event()
        self._failures = asyncio.Queue[BaseException]()
        self._notes = list(notes)
        self._heard = 0.0  # monotonic time of the coordinator's last word

    def open(self, channel: Channel) -> None:
        """The coordinator has welcomed this agent."""
        self.channel = channel
        self.heard()
        for kind, text in self._notes:
            self.note(kind, text)
        self._notes = []

    def heard(self) -> None:
        """The coordinator has said something."""
        self._heard = time.monotonic()

    def post(self, message: FromAgent) -> None:
        """Say something, if anybody hears it now."""
        if self.channel is not None:
            self.channel.post(dump(message))

    async def send(self, message: FromAgent) -> None:
        """The same, and wait while the connection is slow. Raises ConnectionError."""
        if self.channel is not None:
            await self.channel.send(dump(message))

    def note(self, kind: str, text: str) -> None:
        """A sentence for the journal; it waits for the next connection where there is none."""
        if self.channel is None:
            self._notes.append((kind, text))
        else:
            self.post(NoteReport(kind, text))

    def trouble(self, text: str) -> None:
        """This node cannot do its part; said until somebody hears it."""
        print(text, file=sys.stderr, flush=True)
        self.troubled.set()
        self._tell_trouble(text)

    def _tell_trouble(self, text: str) -> None:
        if self.channel is not None:
            self.post(TroubleReport(text))
        else:
            asyncio.get_running_loop().call_later(0.1, self._tell_trouble, text)

    def fail(self, error: BaseException) -> None:
        """A part of this agent has ended by an error that nobody foresaw; whoever leads would wait for it for ever."""
        self._failures.put_nowait(error)

    async def failed(self) -> None:
        """Wait for such an error, and raise it: the agent ends by it, and its init starts another."""
        error = await self._failures.get()
        self.note("warning", f"its agent is started anew after an error of its own: {error!r}")
        raise error

    def beat(self, pulses: list[PulseReport]) -> None:
        """A sign of life, to which the coordinator answers. A machine without power does not even hang up."""
        if self.channel is None:
            return
        if time.monotonic() - self._heard > SILENCE:
            self.channel.abort()
        else:
            self.post(Beat(time.monotonic(), pulses))

    def free_port(self) -> int:
        """A port that is free on this node's address just now."""
        assert self.choice is not None, "a node chooses its network before it joins"
        return network.free_port(self.choice.address)


class Background:
    """Runs things beside the rest, and keeps hold of them until they are done.

    Args:
        fail: called with the error by which one of them has ended.
    """

    def __init__(self, fail: Callable[[BaseException], None]) -> None:
        self._fail = fail
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin with it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
