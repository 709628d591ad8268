"""The coordinator's side of the socket that clients come through: one handler an operation.

What a client wants of a node is in `errands`.

Whoever can open the socket may do everything: it is the owner of the run's directory, or somebody whom Docker lets
run commands in the coordinator's container.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from swarmtrain.coordinator.errands import Errands
from swarmtrain.coordinator.output import Filter, Line, Reader, in_order, tail
from swarmtrain.coordinator.run import Run
from swarmtrain.coordinator.status import status
from swarmtrain.coordinator.terms import Phase
from swarmtrain.errors import ChannelError, ClusterError, RequestError, SwarmtrainError
from swarmtrain.protocol.events import Ended, Outcome, remark
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.frames import Message
from swarmtrain.wire.plural import counted, plural
from swarmtrain.wire.records import RecordsReader

_BATCH_BYTES = 512 * 1024
_LONG = 1 << 20  # bytes of a file that take a while to read
_SIGN_OF_LIFE = 1.0  # seconds between status replies of a watch when nothing happens
_STATUS_SECONDS = 0.3  # at least so long between them when much happens
_NOTES = ("chaos",)  # kinds of events that clients may write
_LONGEST_NOTE = 1000


class ClientDesk:
    """Serves clients; one instance a coordinator."""

    def __init__(self, run: Run) -> None:
        self._run, self._now = run, run.journal.clock.monotonic
        self.connected = 0
        self.asked = self._now()  # when a client last asked, or took an answer
        errands = Errands(run)
        self._operations: dict[str, Callable[[Message, Channel], AsyncIterator[Message]]] = {
            "status": self._status,
            "events": self._events,
            "metrics": self._metrics,
            "logs": self._logs,
            "watch": self._watch,
            "stop": self._stop,
            "conclude": self._conclude,
            "resize": self._resize,
            "note": self._note,
            "exec": errands.exec,
            "fetch": errands.fetch,
            "list": errands.list,
            "snapshots": errands.snapshots,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to the socket, from the first byte to the last."""
        await self.attend(Channel(reader, writer))

    async def attend(self, channel: Channel) -> None:
        """Requests, one after the other, until the client hangs up."""
        self.connected += 1
        try:
            while (request := await channel.receive()) is not None:
                self.asked = self._now()
                await self._answer(channel, request)
        except (ChannelError, ConnectionError):
            pass  # a client that goes away or speaks nonsense is its own affair
        finally:
            self.connected -= 1
            channel.close()

    async def _answer(self, channel: Channel, request: Message) -> None:
        name = request.get("op")
        try:
            if name not in self._operations:
                raise RequestError(f"this coordinator knows no operation {name!r}")
            async for reply in self._operations[name](request, channel):
                await channel.send(reply)
                self.asked = self._now()
        except SwarmtrainError as error:
            await channel.send({"error": error.message, "hint": error.hint, "exit": error.exit_code})
        except (KeyError, TypeError, ValueError, OSError) as error:
            await channel.send(
                {"error": f"the request could not be answered: {error!r}", "hint": "", "exit": 3}
            )

    # ---- reading ---------------------------------------------------------------------------------------------

    async def _status(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        yield {"status": status(self._run), "done": {}}

    async def _events(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        seen = request.get("after", 0)
        async for _ in self._beats(bool(request.get("follow"))):
            for event in self._run.journal.events[seen:]:
                seen = event.seq
                yield {"event": event.dump()}
        yield {"done": {}}

    async def _metrics(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        reader = RecordsReader(self._run.progress.path, int(request.get("after", 0)))
        async for _ in self._beats(bool(request.get("follow"))):
            while fresh := reader.read(1000):
                yield {"metrics": fresh}
        yield {"done": {"after": reader.after}}

    async def _logs(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        output = self._run.output
        wanted = _filter(request, self._run.journal.clock.now())
        follow = bool(request.get("follow"))
        count = request.get("tail")
        # What is in the file now and what is not yet; it may grow while it is read.
        end = output.path.stat().st_size
        going_on = [] if follow else output.unfinished(wanted)
        if count is not None:
            last = [*await asyncio.to_thread(tail, output.path, wanted, int(count), end), *going_on]
            for lines in _batches(iter(last[-int(count) :] if int(count) else ())):
                yield {"lines": lines}
        elif not follow:
            reader = Reader(output.path, wanted, end=end)
            everything = in_order(itertools.chain(reader.lines(), reader.rest(), going_on))
            async for lines in _beside(_batches(everything)):
                yield {"lines": lines}
        if follow:
            reader = Reader(output.path, wanted, end if count is not None else 0)
            unfinished = self._unfinished(request, wanted)
            # Said once: whoever looks for the last lines with a pattern waits for it.
            caught_up = iter([{"caught_up": True}])
            async for _ in self._beats(True):
                async for lines in _fresh(reader):
                    yield {"lines": lines}
                for reply in caught_up:
                    yield reply
                for reply in unfinished():
                    yield reply
            for lines in _batches(reader.rest()):
                yield {"lines": lines}
        yield {"done": {}}

    async def _watch(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        path = self._run.output.path
        seen = request.get("after", 0)
        start = 0
        if request.get("tail") is not None:
            start = path.stat().st_size
            last = await asyncio.to_thread(tail, path, Filter(), int(request["tail"]), start)
            for lines in _batches(iter(last)):
                yield {"lines": lines}
        reader = Reader(path, Filter(), start)
        output = bool(request.get("output", True))
        shown = 0.0
        unfinished = self._unfinished(request, Filter())
        async for _ in self._beats(True):
            for event in [e for e in self._run.journal.events[seen:] if not isinstance(e, Ended)]:
                seen = event.seq
                yield {"event": event.dump()}
            if output:
                async for lines in _fresh(reader):
                    yield {"lines": lines}
                for reply in unfinished():
                    yield reply
            if self._now() - shown > _STATUS_SECONDS:
                shown = self._now()
                yield {"status": status(self._run)}
        if output:
            for lines in _batches(reader.rest()):
                yield {"lines": lines}
        for event in self._run.journal.events[seen:]:
            yield {"event": event.dump()}
        yield {"status": status(self._run), "done": {}}

    def _unfinished(self, request: Message, wanted: Filter) -> Callable[[], Iterator[Message]]:
        """What tells, at each call, the lines that go on, if the client asked for them and they have changed."""
        told: list[Line] = []

        def tell() -> Iterator[Message]:
            nonlocal told
            lines = self._run.output.unfinished(wanted) if request.get("unfinished") else []
            if lines != told:
                told = lines
                yield {"unfinished": lines}

        return tell

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

    async def _stop(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        if not request.get("reason"):
            self._run.stop()
        elif not self._run.refuse(str(request["reason"])):
            yield {"status": status(self._run), "done": {}}
            return
        async for _ in self._beats(True):
            pass
        yield {"status": status(self._run), "done": {}}

    async def _conclude(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        if not self._run.archive:
            raise ClusterError(f"{self._run.ticket.run} has a coordinator, which says how it ends")
        self._run.conclude(Outcome(request["outcome"]), str(request["reason"]))
        yield {"status": status(self._run), "done": {}}

    async def _resize(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
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
            alone = f"{counted(low, 'node')} and no {plural(low, 'other')}"
            allowed = f"{low} to {high} nodes" if low < high else alone
            raise RequestError(
                f"{run.ticket.run} cannot go on with {nodes}: its job allows {allowed}",
                "give the job a range, as nodes: 2..4, to resize it while it runs",
            )
        run.resize(nodes)
        yield {"status": status(run), "done": {}}

    async def _note(self, request: Message, channel: Channel) -> AsyncIterator[Message]:
        kind, text = request["kind"], str(request["text"])
        if kind not in _NOTES:
            raise RequestError(f"a client writes no event of kind {kind!r}", f"kinds: {', '.join(_NOTES)}")
        if self._run.phase is Phase.ENDED:
            raise ClusterError(f"{self._run.ticket.run} has ended: its journal is closed")
        event = self._run.journal.append(remark(kind, text[:_LONGEST_NOTE]))
        yield {"event": event.dump(), "done": {}}


def _filter(request: Message, now: float) -> Filter:
    since = float(request.get("since") or 0.0)
    return Filter(
        ranks=frozenset(request.get("ranks") or ()),
        nodes=frozenset(request.get("nodes") or ()),
        since=since if since >= 0 else now + since,
    )


async def _fresh(reader: Reader) -> AsyncIterator[list[Any]]:
    """What there is to read now: mostly a few lines, for which a thread would cost more than they do."""
    batches, is_long = _batches(reader.lines()), reader.behind() > _LONG
    if is_long:
        async for lines in _beside(batches):
            yield lines
    for lines in batches:
        yield lines


async def _beside(batches: Iterator[list[Any]]) -> AsyncIterator[list[Any]]:
    """Read a file that may be long in a thread: leases are kept, and others answered, meanwhile."""
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        yield batch


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
