"""What clients ask of a node: a command on it, its files, its snapshots. Here they are passed on and back.

A node's agent does it while it is connected. The files of one whose storage is this machine's are read from here; of
any other that has gone, the client is told to reach it first.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from swarmtrain.coordinator.peers import Peer
from swarmtrain.coordinator.roll import SILENCE
from swarmtrain.coordinator.run import Run
from swarmtrain.coordinator.terms import Phase
from swarmtrain.errors import ClusterError, RequestError
from swarmtrain.wire import files, snapshots
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.frames import Message

_numbers = itertools.count(1)
_NOTHING: Message = {}


class Errands:
    """Runs clients' errands on nodes; one instance a coordinator."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def exec(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        """A command beside a node's workers; what the client types goes to it until it ends."""
        peer = self._peer(self._node(request))
        keys = ("argv", "tty", "rows", "columns", "rank")
        number, replies = _open(peer, {"exec": {key: request[key] for key in keys if key in request}})
        typing = asyncio.ensure_future(_relay(channel, peer, number))
        try:
            async for reply in self._replies(peer, number, replies):
                yield reply
        finally:
            typing.cancel()
            await asyncio.wait([typing])  # two cannot read from one channel

    def fetch(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        """A file or a directory of a node, whole."""
        return self._files("fetch", request["path"], request, files.send)

    def list(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        """What lies in a directory of a node."""
        return self._files("list", request.get("path", "."), request, files.listing)

    def snapshots(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        """A node's copies of snapshots, and what `wire.snapshots` does with them; or which nodes there are to ask."""
        if request.get("do") == "nodes":
            return _one({"nodes": sorted(self._nodes()), "done": {}})
        node, place = self._node(request), self._run.place
        order = {key: value for key, value in request.items() if key in ("do", "tier", "file", "keys")}
        order["directory"] = place.directory
        return self._on(
            node,
            {"snapshots": order},
            lambda: snapshots.answer(place.storage, place.lineage, node, order),
        )

    def _files(
        self, op: str, path: str, request: Message, answer: Callable[[Path, str], Iterator[Message]]
    ) -> AsyncIterator[Message]:
        node, place = self._holder(request), self._run.place
        return self._on(
            node,
            {op: {"path": path}},
            lambda: answer(files.locate(place.storage, place.lineage, node, path), node),
        )

    async def _on(
        self, node: str, errand: Message, from_here: Callable[[], Iterator[Message]]
    ) -> AsyncIterator[Message]:
        """Answers from a node's agent, from this machine's disk, or the word that the node must be reached first.

        An agent that goes without a word, as it does when the run has just ended, was not there to be asked.
        """
        peer, place = self._run.roll.peers.get(node), self._run.place
        if peer is not None and peer.channel is not None:
            told = False
            async for reply in self._replies(peer, *_open(peer, errand)):
                if "gone" in reply and not told:
                    break
                told = True
                yield reply
            if told:
                return
        if place.storage.work(place.lineage, node).parent.is_dir():
            replies = from_here()
            while (reply := await asyncio.to_thread(next, replies, _NOTHING)) is not _NOTHING:
                yield reply
        else:
            yield {"reach": node, "done": {}}

    async def _replies(
        self, peer: Peer, number: int, queue: asyncio.Queue[Message]
    ) -> AsyncIterator[Message]:
        """What an agent answers, to the last word; a client that goes away takes its request back.

        An agent that says nothing at all any more, as one that was stopped, is given up, also when the run has ended
        and nobody else looks.
        """
        try:
            while True:
                try:
                    reply = await asyncio.wait_for(queue.get(), SILENCE)
                except (TimeoutError, asyncio.TimeoutError):
                    self._run.roll.drop_the_silent()
                    continue
                yield reply
                if "done" in reply or "error" in reply:
                    return
                peer.post({"more": number})
        finally:
            peer.replies.pop(number, None)
            peer.post({"cancel": number})

    def _holder(self, request: Message) -> str:
        """The node asked for; else that of rank 0."""
        if request.get("node"):
            return self._node(request)
        if not self._run.current.workers:
            raise ClusterError("no node of this run has started yet, so there is nothing there")
        return self._run.current.workers[0].node

    def _node(self, request: Message) -> str:
        """The node that a request names by itself or by a rank."""
        run = self._run
        nodes = self._nodes()
        rank = request.get("rank")
        if rank is not None:
            if rank not in run.current.workers:
                raise RequestError(
                    f"there is no rank {rank}", f"ranks are 0 to {len(run.current.workers) - 1}"
                )
            return run.current.workers[rank].node
        node = str(request.get("node"))
        if node not in nodes:
            raise RequestError(
                f"{node} takes no part in {run.ticket.run}", f"its nodes: {', '.join(sorted(nodes))}"
            )
        return node

    def _nodes(self) -> set[str]:
        """Every node that has taken part, or is to."""
        run = self._run
        return {
            *run.roll.peers,
            *run.task.node_names,
            *(worker.node for worker in run.current.workers.values()),
            *run.state.joined,
        }

    def _peer(self, node: str) -> Peer:
        peer = self._run.roll.peers.get(node)
        if (peer is None or peer.channel is None) and self._run.phase is Phase.ENDED:
            raise ClusterError(f"{self._run.ticket.run} has ended: nothing of it runs any more")
        if peer is None or peer.channel is None:
            raise ClusterError(
                f"the agent on {node} is not there (any more)",
                f"see `swarmtrain status {self._run.task.name}`",
            )
        return peer


def _open(peer: Peer, message: Message) -> tuple[int, asyncio.Queue[Message]]:
    number = next(_numbers)
    queue: asyncio.Queue[Message] = asyncio.Queue()
    peer.replies[number] = queue
    peer.post(message | {"id": number})
    return number, queue


async def _one(reply: Message) -> AsyncIterator[Message]:
    yield reply


async def _relay(channel: Channel, peer: Peer, number: int) -> None:
    """What a client types, to the agent; the client's going away ends the command."""
    while (message := await channel.receive()) is not None:
        peer.post({"input": message, "id": number})
    peer.post({"cancel": number})
