"""What the coordinator knows of each agent and of each worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, fields
from typing import Any

from swarmtrain.coordinator.core.model import Candidate
from swarmtrain.coordinator.core.root_cause import describe_exit
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.events import NodeJoined
from swarmtrain.protocol.from_agent import WorkerReport
from swarmtrain.protocol.replies import ErrorReply, NodeReply
from swarmtrain.protocol.status import Worker
from swarmtrain.protocol.to_agent import ToAgent
from swarmtrain.wire.channel import Channel


@dataclass
class RankState:
    """One rank of the current generation."""

    rank: int
    local_rank: int
    node: str
    state: str = "starting"  # starting, running, exited, killed
    pid: int | None = None
    exit: str = ""  # in words, once it is over
    code: int | None = None
    step: int | None = None
    signal: int | None = None
    left: float = 0.0  # when it has gone, Unix time
    paused: bool = False  # it has left with all work saved, as it was asked to
    # its script had left its last line of code: its work was done, however the process ended
    ended: bool = False

    @property
    def over(self) -> bool:
        """Whether it has gone."""
        return self.state in ("exited", "killed")

    @property
    def done(self) -> bool:
        """Whether it has gone with its work done."""
        return self.over and (self.code == 0 or self.ended)

    def take(self, report: WorkerReport) -> None:
        """Its agent says that it runs, or how it ended."""
        self.pid, self.state, end = report.pid, report.state, report.end
        if end is None:
            return
        self.code, self.signal, self.left = end.code, end.signal, report.time
        self.paused, self.ended = end.paused, end.ended
        self.exit = describe_exit(self.code, self.signal)
        if report.killed:
            self.state = "killed"

    def dump(self) -> dict[str, Any]:
        """As it stands in the status document."""
        return dict(vars(self))

    def final(self) -> Worker:
        """As the end of the run leaves it."""
        return Worker(**vars(self))


@dataclass
class ConnectedAgent(Candidate):
    """One agent: what it said when it joined, and its connection while there is one.

    Attributes:
        interface, why: through which it talks to the others, and why through that.
        generation: the last one that it has heard of.
        copied: events of the journal that it has; more than there are until it is welcome.
        missed_start: its connection broke before it heard of the current generation.
        clock: seconds to add to its monotonic times, to have Unix time by the run's clock.
    """

    node_id: str = ""
    interface: str = ""
    why: str = ""
    gpus: int = 0
    channel: Channel | None = None
    generation: int = 0
    copied: int = 1 << 62
    missed_start: bool = False
    clock: float = 0.0
    replies: dict[int, asyncio.Queue[NodeReply]] = field(default_factory=dict)

    def joins(self, text: str) -> NodeJoined:
        """The event of its joining.

        Args:
            text: of the event.
        """
        return NodeJoined(
            text=text,
            node=self.node,
            node_id=self.node_id,
            incarnation=self.incarnation,
            address=self.address,
            interface=self.interface,
            gpus=self.gpus,
        )

    def renew(self, said: ConnectedAgent) -> None:
        """It has joined again: what it says now counts, but that it leaves is never taken back."""
        leaving = self.leaving or said.leaving
        for each in fields(self):
            if each.name not in ("node", "joined", "gone", "missed_start", "replies"):
                setattr(self, each.name, getattr(said, each.name))
        self.leaving = leaving

    def hang_up(self) -> None:
        """End its connection, if there is one; whoever waits for its answers is told."""
        for queue in self.replies.values():
            gone = ErrorReply(f"the agent on {self.node} went away", gone=True)
            queue.put_nowait(NodeReply(error=gone))
        if self.channel is not None:
            self.channel.abort()
            self.channel = None

    def post(self, message: ToAgent) -> None:
        """Tell the agent, if it can be told now; it learns everything it missed when it joins again."""
        if self.channel is not None:
            self.channel.post(dump(message))


class Notifier:
    """Wakes everybody who waits for something new."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Something is new."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Until it rings, or for so long."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            pass
