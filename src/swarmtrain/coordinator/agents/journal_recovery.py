"""The journal of a coordinator whose machine is gone, put together again from what the agents hold.

``swarmtrain recover`` starts the coordinator on another manager, where no journal is, and says so in its environment.
Before it does anything else it asks every agent that comes for its copy, and goes on from the one that knows most.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarmtrain.coordinator.core.state import replay
from swarmtrain.errors import ChannelError, ClusterError
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.facts import ClockOrigin
from swarmtrain.protocol.from_agent import FROM_AGENT, CopyPiece, Join
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import CoordinatorMoved, GenerationFormed
from swarmtrain.protocol.journal.lines import admit, read_events
from swarmtrain.protocol.to_agent import AskForCopy
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.clock import MACHINE, Clock, RunClock
from swarmtrain.wire.disk.records import as_line
from swarmtrain.wire.door import Door
from swarmtrain.wire.sockets import serve

PATIENCE = 10.0  # seconds after the first copy for the others to come
_LONGEST = 300.0  # seconds without any copy after which it is given up, to be tried again


class NothingRecovered(ClusterError):
    """No agent came."""


@dataclass
class _Recovery:
    door: Door
    clock: Clock
    best: list[Event] = field(default_factory=list)
    age: float | None = None  # seconds since the last of these, when it was handed over
    nodes: set[str] = field(default_factory=set)
    first: float | None = None

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One agent: its copy, to the last word; it then joins again."""
        channel = Channel(reader, writer)
        try:
            join = FROM_AGENT.load(await self.door.admit(channel))
            if not isinstance(join, Join) or join.role != "agent" or join.who is None:
                return
            await channel.send(dump(AskForCopy()))
            copy: list[Event] = []
            while (answer := await channel.receive()) is not None:
                piece = FROM_AGENT.load(answer)
                if not isinstance(piece, CopyPiece):
                    continue
                for record in piece.events:
                    admit(copy, record)
                if piece.done:
                    self._take(join.who.node, copy, piece.age)
                    return
        except (ChannelError, ConnectionError, TimeoutError, asyncio.TimeoutError) as error:
            self.door.refuse(channel, error)
        except (LookupError, TypeError, ValueError):
            pass  # an agent of another version; one of ours comes again
        finally:
            channel.close()

    def _take(self, node: str, copy: list[Event], age: float | None) -> None:
        self.nodes.add(node)
        self.first = self.first or self.clock.monotonic()
        if worth(copy) > worth(self.best) or (worth(copy) == worth(self.best) and self.age is None):
            self.best, self.age = copy, age

    def complete(self) -> bool:
        """Whether everybody who trained, but one at most, has answered: that one is the reason for all this."""
        formed = [event for event in self.best if isinstance(event, GenerationFormed)]
        expected = set(formed[-1].parts) if formed else set[str]()
        return self.first is not None and bool(expected) and len(expected - self.nodes) <= 1


def worth(copy: Sequence[Event]) -> tuple[int, int]:
    """How much a copy of the journal knows: by the last move of the coordinator, then by its length."""
    moves = [event.moved for event in copy if isinstance(event, CoordinatorMoved)]
    return max(moves, default=0), len(copy)


async def recover_journal(
    address: str, token: str, path: Path, move: int, where: str, clock: Clock = MACHINE
) -> None:
    """Make ``path`` the journal of the run.

    Args:
        address: where agents look for the coordinator.
        path: of the journal; one that is there already is taken into account like an agent's copy.
        move: the number of this move, higher than every earlier one's.
        where: the node that the coordinator moved to.
        clock: of this machine.

    Raises:
        NothingRecovered: no copy came within five minutes.
    """
    work = _Recovery(Door(token), clock)
    if path.exists():
        work.best = read_events(path)
    if worth(work.best)[0] >= move:
        return  # done before this process was started again
    server = await serve(address, work.hear)
    began = clock.monotonic()
    try:
        while not work.complete() and (work.first is None or clock.monotonic() - work.first < PATIENCE):
            if work.first is None and clock.monotonic() - began > _LONGEST:
                raise NothingRecovered("no agent has come, so there is nothing to go on from")
            await asyncio.sleep(0.1)
    finally:
        server.close()
    text = f"the coordinator was moved to {where}, and goes on from what {', '.join(sorted(work.nodes))} knew"
    state = replay(work.best)
    kept = RunClock.after(state.last, clock, boot=state.clock.boot, epoch=state.clock.epoch, age=work.age)
    moved = CoordinatorMoved(text=text, moved=move, clock=ClockOrigin(clock.boot(), kept.epoch))
    aside = path.with_suffix(".new")
    with aside.open("wb") as file:
        for event in (*work.best, moved.numbered(len(work.best) + 1, kept.now())):
            file.write(as_line(event.dump()))
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
