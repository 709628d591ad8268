"""The coordinator's side of the socket that clients come through: one handler an operation.

Whoever can open the socket may do everything: it is the owner of the run's directory, or somebody whom Docker lets
run commands in the coordinator's container.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from swarmtrain.coordinator.output import Filter, Line, Reader, in_order, tail
from swarmtrain.coordinator.peers import Peer
from swarmtrain.coordinator.records import RecordsReader
from swarmtrain.coordinator.run import Run
from swarmtrain.coordinator.status import status
from swarmtrain.coordinator.terms import Phase
from swarmtrain.errors import ChannelError, ClusterError, RequestError, SwarmtrainError
from swarmtrain.wire import files, snapshots
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.frames import Message

_BATCH_BYTES = 512 * 1024
_SIGN_OF_LIFE = 1.0  # seconds between status replies of a watch when nothing happens
_STATUS_SECONDS = 0.3  # at least so long between them when much happens
_NOTES = ("chaos",)  # kinds of events that clients may write
_LONGEST_NOTE = 1000
_numbers = itertools.count(1)


class ClientDesk:
    """Serves clients; one instance a coordinator."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.connected = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to the socket, from the first byte to the last."""
        await self.attend(Channel(reader, writer))

    async def attend(self, channel: Channel) -> None:
        """Requests, one after the other, until the client hangs up."""
        self.connected += 1
        try:
            while (request := await channel.receive()) is not None:
                await self._answer(channel, request)
        except (ChannelError, ConnectionError):
            pass  # a client that goes away or speaks nonsense is its own affair
        finally:
            self.connected -= 1
            channel.close()

    async def _answer(self, channel: Channel, request: Message) -> None:
        handler = getattr(self, f"_do_{request.get('op')}", None)
        try:
            if handler is None:
                raise RequestError(f"this coordinator knows no operation {request.get('op')!r}")
            async for reply in handler(request, channel):
                await channel.send(reply)
        except SwarmtrainError as error:
            await channel.send({"error": error.message, "hint": error.hint, "exit": error.exit_code})
        except (KeyError, TypeError, ValueError, OSError) as error:
            await channel.send(
                {"error": f"the request could not be answered: {error!r}", "hint": "", "exit": 3}
            )

    # ---- reading ---------------------------------------------------------------------------------------------

    async def _do_status(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        yield {"status": status(self._run), "done": {}}

    async def _do_events(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        seen = request.get("after", 0)
        async for _ in self._beats(bool(request.get("follow"))):
            for event in self._run.journal.events[seen:]:
                seen = event["seq"]
                yield {"event": event}
        yield {"done": {}}

    async def _do_metrics(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        reader = RecordsReader(self._run.progress.path, int(request.get("after", 0)))
        async for _ in self._beats(bool(request.get("follow"))):
            while fresh := reader.read(1000):
                yield {"metrics": fresh}
        yield {"done": {"after": reader.after}}

    async def _do_logs(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        path = self._run.output.path
        wanted = _filter(request)
        follow = bool(request.get("follow"))
        count = request.get("tail")
        start = path.stat().st_size if count is not None else 0
        if count is not None:
            for lines in _batches(iter(tail(path, wanted, int(count)))):
                yield {"lines": lines}
        if count is None or follow:
            reader = Reader(path, wanted, start)
            if not follow:
                for lines in _batches(in_order(itertools.chain(reader.lines(), reader.rest()))):
                    yield {"lines": lines}
            else:
                async for _ in self._beats(True):
                    for lines in _batches(reader.lines()):
                        yield {"lines": lines}
                for lines in _batches(reader.rest()):
                    yield {"lines": lines}
        yield {"done": {}}

    async def _do_watch(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        path = self._run.output.path
        seen = request.get("after", 0)
        start = 0
        if request.get("tail") is not None:
            start = path.stat().st_size
            for lines in _batches(iter(tail(path, Filter(), int(request["tail"])))):
                yield {"lines": lines}
        reader = Reader(path, Filter(), start)
        output = bool(request.get("output", True))
        shown = 0.0
        async for _ in self._beats(True):
            for event in [e for e in self._run.journal.events[seen:] if e["kind"] != "ended"]:
                seen = event["seq"]
                yield {"event": event}
            if output:
                for lines in _batches(reader.lines()):
                    yield {"lines": lines}
            if time.monotonic() - shown > _STATUS_SECONDS:
                shown = time.monotonic()
                yield {"status": status(self._run)}
        if output:
            for lines in _batches(reader.rest()):
                yield {"lines": lines}
        for event in self._run.journal.events[seen:]:
            yield {"event": event}
        yield {"status": status(self._run), "done": {}}

    async def _beats(self, follow: bool) -> AsyncIterator[None]:
        """Once now; when following, again whenever something is new, and a last time after the end."""
        while True:
            over = self._run.phase is Phase.ENDED or not follow
            yield
            if over:
                return
            await self._run.bell.wait(_SIGN_OF_LIFE)
            await asyncio.sleep(0.03)  # let a burst gather

    # ---- acting ----------------------------------------------------------------------------------------------

    async def _do_stop(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        if not request.get("reason"):
            self._run.stop()
        elif not self._run.refuse(str(request["reason"])):
            yield {"status": status(self._run), "done": {}}
            return
        async for _ in self._beats(True):
            pass
        yield {"status": status(self._run), "done": {}}

    async def _do_resize(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        run, nodes = self._run, int(request["nodes"])
        low, high = run.policy.nodes_min, run.policy.nodes_max
        if run.phase is Phase.ENDED:
            raise ClusterError(
                f"{run.ticket.run} has ended: {status(run)['state']}",
                f"`swarmtrain run --resume --nodes {nodes}` goes on from there",
            )
        if run.policy.names:
            raise RequestError(
                f"{run.ticket.run} cannot be resized: its job names its nodes, {', '.join(run.policy.names)}",
                "give the job a range, as nodes: 2..4, to resize it while it runs",
            )
        if not low <= nodes <= high:
            allowed = f"{low} to {high} nodes" if low < high else f"{low} nodes and no others"
            raise RequestError(
                f"{run.ticket.run} cannot go on with {nodes}: its job allows {allowed}",
                "give the job a range, as nodes: 2..4, to resize it while it runs",
            )
        run.resize(nodes)
        yield {"status": status(run), "done": {}}

    async def _do_note(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        kind, text = request["kind"], str(request["text"])
        if kind not in _NOTES:
            raise RequestError(f"a client writes no event of kind {kind!r}", f"kinds: {', '.join(_NOTES)}")
        if self._run.phase is Phase.ENDED:
            raise ClusterError(f"{self._run.ticket.run} has ended: its journal is closed")
        yield {"event": self._run.journal.append(kind, text[:_LONGEST_NOTE]), "done": {}}

    async def _do_exec(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        peer = self._peer(self._node(request))
        keys = ("argv", "tty", "rows", "columns", "rank")
        number, replies = _open(peer, {"exec": {key: request[key] for key in keys if key in request}})
        typing = asyncio.ensure_future(_relay(channel, peer, number))
        try:
            async for reply in _replies(peer, number, replies):
                yield reply
        finally:
            typing.cancel()
            await asyncio.wait([typing])  # two cannot read from one channel

    async def _do_fetch(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        async for reply in self._files("fetch", request["path"], request, files.send):
            yield reply

    async def _do_list(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        async for reply in self._files("list", request.get("path", "."), request, files.listing):
            yield reply

    async def _do_snapshots(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        if request.get("do") == "nodes":
            yield {"nodes": sorted(self._nodes()), "done": {}}
            return
        node, place = self._node(request), self._run.place
        order = {key: value for key, value in request.items() if key in ("do", "tier", "file", "keys")}
        order["directory"] = place.directory
        peer = self._run.roll.peers.get(node)
        if peer is not None and peer.channel is not None:
            async for reply in _replies(peer, *_open(peer, {"snapshots": order})):
                yield reply
        elif place.storage.work(place.lineage, node).parent.is_dir():
            replies = snapshots.answer(place.storage, place.lineage, node, order)
            while (reply := await asyncio.to_thread(next, replies, {})) != {}:
                yield reply
        else:
            yield {"reach": node, "done": {}}

    async def _files(
        self, op: str, path: str, request: Message, answer: Callable[[Path, str], Iterator[Message]]
    ) -> AsyncIterator[Message]:
        """Of the node that holds them: from its agent, from this disk, or the word that it must be reached first."""
        node = self._holder(request)
        peer = self._run.roll.peers.get(node)
        place = self._run.place
        if peer is not None and peer.channel is not None:
            async for reply in _replies(peer, *_open(peer, {op: {"path": path}})):
                yield reply
        elif place.storage.work(place.lineage, node).parent.is_dir():
            for reply in answer(files.locate(place.storage, place.lineage, node, path), node):
                yield reply
        else:
            yield {"reach": node, "done": {}}

    # ---- helpers ---------------------------------------------------------------------------------------------

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
        joined = (event["node"] for event in run.journal.all("joined"))
        return {
            *run.roll.peers,
            *run.task.node_names,
            *(worker.node for worker in run.current.workers.values()),
            *joined,
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


async def _replies(peer: Peer, number: int, queue: asyncio.Queue[Message]) -> AsyncIterator[Message]:
    """What an agent answers, to the last word; a client that goes away takes its request back."""
    try:
        while True:
            reply = await queue.get()
            yield reply
            if "done" in reply or "error" in reply:
                return
            peer.post({"more": number})
    finally:
        peer.replies.pop(number, None)
        peer.post({"cancel": number})


async def _relay(channel: Channel, peer: Peer, number: int) -> None:
    """What a client types, to the agent; the client's going away ends the command."""
    while (message := await channel.receive()) is not None:
        peer.post({"input": message, "id": number})
    peer.post({"cancel": number})


def _filter(request: Message) -> Filter:
    try:
        regex = re.compile(request["regex"]) if request.get("regex") else None
    except re.error as error:
        raise RequestError(f"{request['regex']!r} is not a regular expression: {error}") from error
    return Filter(
        ranks=frozenset(request.get("ranks") or ()),
        nodes=frozenset(request.get("nodes") or ()),
        regex=regex,
        since=float(request.get("since") or 0.0),
    )


def _batches(lines: Iterator[Line]) -> Iterator[list[Any]]:
    batch: list[Line] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line[4]) + 64
        if size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
