"""What clients ask of a node: a command on it, its files, its snapshots. Here they are passed on and back.

A node's agent does it while it is connected. The files of one whose storage is this machine's are read from here; of
any other that has gone, the client is told to reach it first.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator

from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.run.members import SILENCE, ConnectedAgent
from swarmtrain.errors import ChannelError, ClusterError, RequestError
from swarmtrain.files import fetch, snapshots
from swarmtrain.files.listing import listing
from swarmtrain.protocol.codec import load
from swarmtrain.protocol.replies import Done, NodeReply
from swarmtrain.protocol.requests import (
    ExecRequest,
    FetchRequest,
    ListRequest,
    ProfileRequest,
    SnapshotsRequest,
    TerminalInput,
)
from swarmtrain.protocol.to_agent import (
    CommandOrder,
    ListOrder,
    NodeCancel,
    NodeExec,
    NodeFetch,
    NodeInput,
    NodeList,
    NodeMore,
    NodeProfile,
    NodeSnapshots,
    PathOrder,
    ProfileOrder,
    SnapshotsOrder,
    ToAgent,
)
from swarmtrain.wire.channel import Channel

Ask = Callable[[int], ToAgent]  # makes what an agent is asked, under a number

_numbers = itertools.count(1)


class NodeRequests:
    """Asks nodes for clients; one instance a coordinator."""

    def __init__(self, run: RunController) -> None:
        self._run = run

    def exec(self, request: ExecRequest, channel: Channel) -> AsyncIterator[NodeReply]:
        """A command beside a node's workers; what the client types goes to it until it ends."""
        agent = self._agent(self._node(request.node, request.rank))
        order = CommandOrder(
            list(request.argv), request.tty, request.rows, request.columns, rank=request.rank
        )
        return self._while_heard(agent, lambda number: NodeExec(order, number), channel)

    def fetch(self, request: FetchRequest) -> AsyncIterator[NodeReply]:
        """A file or a directory of a node, whole."""
        order, node, place = PathOrder(request.path), self._holder(request.node), self._run.place
        return self._on(
            node,
            lambda number: NodeFetch(order, number),
            lambda: fetch.send(fetch.locate(place.storage, place.lineage, node, request.path), node),
        )

    def list(self, request: ListRequest) -> AsyncIterator[NodeReply]:
        """What lies in a directory of a node."""
        order = ListOrder(request.path, request.recursive)
        node, place = self._holder(request.node), self._run.place
        return self._on(
            node,
            lambda number: NodeList(order, number),
            lambda: listing(place.storage, place.lineage, node, order),
        )

    def snapshots(self, request: SnapshotsRequest) -> AsyncIterator[NodeReply]:
        """A node's copies of snapshots, and what `files.snapshots` does with them; or which nodes there are to ask."""
        if request.do == "nodes":
            return _one(NodeReply(nodes=sorted(self._nodes()), done=Done()))
        node, place = self._node(request.node), self._run.place
        order = SnapshotsOrder(request.do, place.directory, request.tier, request.file, request.keys)
        return self._on(
            node,
            lambda number: NodeSnapshots(order, number),
            lambda: snapshots.answer(place.storage, place.lineage, node, order),
        )

    def profile(self, request: ProfileRequest, channel: Channel) -> AsyncIterator[NodeReply]:
        """Some steps of a rank that runs; a client that hangs up takes it back."""
        agent = self._agent(self._node("", request.rank))
        order = ProfileOrder(request.rank, request.steps, request.shapes, request.memory, request.within)
        return self._while_heard(agent, lambda number: NodeProfile(order, number), channel)

    async def _while_heard(
        self, agent: ConnectedAgent, ask: Ask, channel: Channel
    ) -> AsyncIterator[NodeReply]:
        """An agent's answers, while it hears what the client says meanwhile, and that it has gone."""
        number, replies = _open(agent, ask)
        relaying = asyncio.ensure_future(_relay(channel, agent, number))
        try:
            async for reply in self._replies(agent, number, replies):
                yield reply
        finally:
            relaying.cancel()
            await asyncio.wait([relaying])  # two cannot read from one channel

    async def _on(
        self, node: str, ask: Ask, from_here: Callable[[], Iterator[NodeReply]]
    ) -> AsyncIterator[NodeReply]:
        """Answers from a node's agent, from this machine's disk, or the word that the node must be reached first.

        An agent that goes without a word, as it does when the run has just ended, was not there to be asked.
        """
        agent, place = self._run.members.connected.get(node), self._run.place
        if agent is not None and agent.channel is not None:
            told = False
            async for reply in self._replies(agent, *_open(agent, ask)):
                if reply.error is not None and reply.error.gone and not told:
                    break
                told = True
                yield reply
            if told:
                return
        if place.storage.work(place.lineage, node).parent.is_dir():
            replies = from_here()
            while (found := await asyncio.to_thread(next, replies, None)) is not None:
                yield found
        else:
            yield NodeReply(reach=node, done=Done())

    async def _replies(
        self, agent: ConnectedAgent, number: int, queue: asyncio.Queue[NodeReply]
    ) -> AsyncIterator[NodeReply]:
        """What an agent answers, to the last word; a client that goes away takes its request back.

        An agent that says nothing at all any more, as one that was stopped, is given up, also when the run has ended
        and nobody else looks.
        """
        try:
            while True:
                try:
                    reply = await asyncio.wait_for(queue.get(), SILENCE)
                except (TimeoutError, asyncio.TimeoutError):
                    self._run.members.drop_the_silent()
                    continue
                yield reply
                if reply.done is not None or reply.error is not None:
                    return
                if not reply.taken:  # which is said of what was typed, and fills no part of the way back
                    agent.post(NodeMore(number))
        finally:
            agent.replies.pop(number, None)
            agent.post(NodeCancel(number))

    def _holder(self, node: str) -> str:
        """The node asked for; else that of rank 0."""
        if node:
            return self._node(node)
        if not self._run.current.workers:
            raise ClusterError("no node of this run has started yet, so there is nothing there")
        return self._run.current.workers[0].node

    def _node(self, node: str, rank: int | None = None) -> str:
        """The node that is named by itself or by a rank."""
        run = self._run
        nodes = self._nodes()
        if rank is not None:
            if rank not in run.current.workers:
                raise RequestError(
                    f"there is no rank {rank}", f"ranks are 0 to {len(run.current.workers) - 1}"
                )
            return run.current.workers[rank].node
        if node not in nodes:
            raise RequestError(
                f"{node} takes no part in {run.secret.run}", f"its nodes: {', '.join(sorted(nodes))}"
            )
        return node

    def _nodes(self) -> set[str]:
        """Every node that has taken part, or is to."""
        run = self._run
        return {
            *run.members.connected,
            *run.spec.node_names,
            *(worker.node for worker in run.current.workers.values()),
            *run.state.joined,
        }

    def _agent(self, node: str) -> ConnectedAgent:
        agent = self._run.members.connected.get(node)
        if (agent is None or agent.channel is None) and self._run.phase is Phase.ENDED:
            raise ClusterError(f"{self._run.secret.run} has ended: nothing of it runs any more")
        if agent is None or agent.channel is None:
            raise ClusterError(
                f"the agent on {node} is not there (any more)",
                f"see `swarmtrain status {self._run.spec.name}`",
            )
        return agent


def _open(agent: ConnectedAgent, ask: Ask) -> tuple[int, asyncio.Queue[NodeReply]]:
    number = next(_numbers)
    queue: asyncio.Queue[NodeReply] = asyncio.Queue()
    agent.replies[number] = queue
    agent.post(ask(number))
    return number, queue


async def _one(reply: NodeReply) -> AsyncIterator[NodeReply]:
    yield reply


async def _relay(channel: Channel, agent: ConnectedAgent, number: int) -> None:
    """What a client types, to the agent; the client's going away ends the command."""
    try:
        while (message := await channel.receive()) is not None:
            agent.post(NodeInput(load(TerminalInput, message, "input"), number))
    except ChannelError:
        pass  # a client that speaks nonsense is its own affair
    agent.post(NodeCancel(number))
