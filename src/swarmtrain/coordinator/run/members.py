"""The members of a run: its agents by name, what has become of each, and their copies of the journal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, fields

from swarmtrain.coordinator.core.generation import Generation
from swarmtrain.coordinator.core.model import Candidate
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.errors import ChannelError
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.journal.events import NodeJoined
from swarmtrain.protocol.journal.lines import batches
from swarmtrain.protocol.journal.remarks import LineDamaged, Warned
from swarmtrain.protocol.replies import ErrorReply, NodeReply
from swarmtrain.protocol.to_agent import JournalPiece, ToAgent
from swarmtrain.wire.channel import Channel

SILENCE = 15.0  # seconds without a word after which a connection is given up


@dataclass
class ConnectedAgent(Candidate):
    """One agent: what it said when it joined, and its connection while there is one.

    Attributes:
        interface, why: through which it talks to the others, and why through that.
        generation: the last one that it has heard of.
        copied: events of the journal that it has; more than there are until it is welcome.
        missed_start: its connection broke before it heard of the current generation.
        clock: seconds to add to its monotonic times, to have Unix time by the run's clock.
        ahead: seconds by which its machine's own clock was ahead of the run's when it joined.
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
    ahead: float = 0.0
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
            boot=round(self.clock, 3),
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


class Members:
    """Every agent that has joined, and those that a restarted coordinator expects back.

    Args:
        journal: of which each agent keeps a copy.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.connected: dict[str, ConnectedAgent] = {}
        # What agents are called, by their id and own name: as the journal knows, and as it has not been told yet.
        self._names = dict(journal.state.names)

    # ---- names and places ------------------------------------------------------------------------------------

    def name_of(self, agent: ConnectedAgent) -> str:
        """Machines of one name are told apart by their ids, and each keeps the name it got."""
        key = (agent.node_id, agent.node)
        for name, known in self.connected.items():
            # Where the journal no longer tells of its machine's joining, it has the name that it says.
            if not known.node_id and (known.incarnation == agent.incarnation or name == agent.node):
                self._names.setdefault(key, name)
        if key not in self._names:
            taken = {*self._names.values(), *self.connected}
            numbered = (f"{agent.node}-{n}" for n in range(2, 99))
            self._names[key] = next(name for name in (agent.node, *numbered) if name not in taken)
        return self._names[key]

    def enter(self, agent: ConnectedAgent) -> None:
        """An agent takes the place of its name; whoever had it before does not get it back."""
        before = self.connected.get(agent.node)
        if before is not None:
            before.hang_up()
        self.connected[agent.node] = agent

    def replaced(self, agent: ConnectedAgent) -> bool:
        """Whether another agent has joined in this one's place: two of them would replace each other for ever."""
        return agent.incarnation in self._journal.state.replaced

    def expect(self, generation: Generation, gone: float) -> None:
        """A coordinator that is started again expects the agents of a generation back.

        What the journal has lost of one, because the disk has damaged it, its agent says anew.

        Args:
            gone: monotonic time from which their lease counts.
        """
        joined = self._journal.state.joined
        for node, part in generation.parts.items():
            known = joined.get(node)
            self.connected[node] = ConnectedAgent(
                node=node,
                node_id=known.node_id if known is not None else "",
                incarnation=part.incarnation,
                slot=0,
                workers=len(part.ranks),
                address=known.address if known is not None else "",
                interface=known.interface if known is not None else "",
                port=0,
                joined=0.0,
                gone=gone,
                heard=gone,
                generation=generation.number,
                idle=False,
                drained=False,
            )

    # ---- who is there ----------------------------------------------------------------------------------------

    def missing(self, generation: Generation, lease: float) -> list[ConnectedAgent]:
        """Members with workers left that are gone or silent: when others fail, they fell because of these.

        Args:
            lease: seconds of silence that count.
        """
        now = self._journal.clock.monotonic()
        return [
            agent
            for agent in self.connected.values()
            if agent.node in generation.parts and not agent.idle
            if now >= (agent.heard + lease if agent.gone is None else agent.gone)
        ]

    def tell_what_is_not_here(self) -> None:
        """Of nodes that an end has waited for in vain: what their workers wrote last may be missing."""
        for node, agent in self.connected.items():
            if not agent.drained:
                text = f"{node} has not delivered all that its workers wrote: their last lines may be missing here"
                self._journal.append(Warned(text=text, node=node))

    def drop_the_silent(self) -> None:
        """Give up the connections on which nothing comes any more."""
        now = self._journal.clock.monotonic()
        for agent in self.connected.values():
            if agent.channel is not None and now - agent.heard > SILENCE:
                agent.channel.abort()

    def slept(self, seconds: float) -> None:
        """Nobody could be heard for so long, so nothing of that time counts as silence."""
        for agent in self.connected.values():
            agent.heard += seconds
            if agent.gone is not None:
                agent.gone += seconds

    # ---- what they are told ----------------------------------------------------------------------------------

    def post(self, message: ToAgent) -> None:
        """Tell every agent."""
        for agent in self.connected.values():
            agent.post(message)

    def publish(self) -> None:
        """Bring every agent's copy of the journal up to date."""
        for agent in self.connected.values():
            self.share(agent)

    def share(self, agent: ConnectedAgent) -> None:
        """Bring an agent's copy of the journal up to date."""
        for batch in batches(self._journal.events[agent.copied :]):
            if agent.channel is None:
                return
            agent.copied += len(batch)
            try:
                agent.post(JournalPiece(batch))
            except ChannelError:  # an event that is too large for any message; in its place, a word
                event = self._journal.events[agent.copied - 1]
                text = "what happened here is too long for a copy of the journal"
                damaged = LineDamaged(text=text, seq=event.seq, time=event.time)
                agent.post(JournalPiece([damaged.dump()]))
