"""The coordinator's side of the socket that clients come through: one handler an operation.

What a client wants of a node is in node_requests.py, what it changes of the run in actions.py.

Whoever can open the socket may do everything: it is the owner of the run's directory, or somebody whom Docker lets
run commands in the coordinator's container. A reader, who has come over the run's network with the reader's key, may
ask for what `readers.py` allows.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

from swarmtrain.coordinator.clients import actions, readers
from swarmtrain.coordinator.clients.last_asked import LastAsked
from swarmtrain.coordinator.clients.node_requests import NodeRequests
from swarmtrain.coordinator.clients.stacks import stacks
from swarmtrain.coordinator.clients.status import status
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.store.output import Filter, Reader, in_order, tail
from swarmtrain.errors import ChannelError, ClusterError, SwarmtrainError
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.facts import Outcome
from swarmtrain.protocol.journal.events import Ended
from swarmtrain.protocol.replies import Done, ErrorReply, Line, NodeReply, RunReply
from swarmtrain.protocol.requests import (
    REQUESTS,
    AlertTestRequest,
    ClientRequest,
    ConcludeRequest,
    EventsRequest,
    ExecRequest,
    ExplainRequest,
    FetchRequest,
    ListRequest,
    LogsRequest,
    MetricsRequest,
    NoteRequest,
    ProfileRequest,
    ReaderRequest,
    ResizeRequest,
    SeriesRequest,
    SnapshotsRequest,
    StacksRequest,
    StatusRequest,
    StopRequest,
    WatchRequest,
)
from swarmtrain.wire.channel import Channel, check_version
from swarmtrain.wire.disk.records import RecordsReader
from swarmtrain.wire.frames import Message

T = TypeVar("T")

_BATCH_BYTES = 512 * 1024
_LONG = 1 << 20  # bytes of a file that take a while to read
_SIGN_OF_LIFE = 1.0  # seconds between status replies of a watch when nothing happens
_STATUS_SECONDS = 0.3  # at least so long between them when much happens


class ClientRequests:
    """Serves clients; one instance a coordinator."""

    def __init__(self, run: RunController) -> None:
        self._run, self._now = run, run.journal.clock.monotonic
        self.connected = 0
        self.asked = LastAsked(self._now)
        self._node_requests = NodeRequests(run)
        self._seats = readers.ReaderSeats()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to the socket, from the first byte to the last."""
        await self.attend(Channel(reader, writer))

    async def attend(self, channel: Channel) -> None:
        """Requests, one after the other, until the client hangs up."""
        self.connected += 1
        try:
            with self._seats.seat(channel):
                while (request := await channel.receive()) is not None:
                    self.asked.note()
                    await self._answer(channel, request)
        except ClusterError as error:
            channel.post(_refusal(error))
        except (ChannelError, ConnectionError):
            pass  # a client that goes away or speaks nonsense is its own affair
        finally:
            self.connected -= 1
            channel.close()

    async def _answer(self, channel: Channel, request: Message) -> None:
        try:
            check_version(request)
            replies = self._replies(readers.allowed(REQUESTS.load(request), channel), channel)
            async for reply in self.asked.answering(replies):
                await channel.send(dump(reply))
        except SwarmtrainError as error:
            await channel.send(_refusal(error))
        except (KeyError, TypeError, ValueError, OSError) as error:
            refusal = ErrorReply(f"the request could not be answered: {error!r}")
            await channel.send(dump(RunReply(error=refusal)))

    def _replies(self, request: ClientRequest, channel: Channel) -> AsyncIterator[RunReply | NodeReply]:
        match request:
            case StatusRequest():
                return self._status()
            case ExplainRequest():
                return self._explain()
            case EventsRequest():
                return self._events(request, channel)
            case MetricsRequest():
                return self._metrics(request, channel)
            case SeriesRequest():
                return self._series(request)
            case LogsRequest():
                return self._logs(request, channel)
            case WatchRequest():
                return self._watch(request, channel)
            case StacksRequest():
                return stacks(self._run, request)
            case AlertTestRequest():
                return self._test_alerts()
            case ReaderRequest():
                return readers.key(self._run)
            case StopRequest():
                return self._stop(request, channel)
            case ConcludeRequest():
                return self._conclude(request)
            case ResizeRequest():
                return self._resize(request)
            case NoteRequest():
                return self._note(request)
            case ExecRequest():
                return self._node_requests.exec(request, channel)
            case FetchRequest():
                return self._node_requests.fetch(request)
            case ListRequest():
                return self._node_requests.list(request)
            case SnapshotsRequest():
                return self._node_requests.snapshots(request)
            case ProfileRequest():
                return self._node_requests.profile(request, channel)

    # ---- reading ---------------------------------------------------------------------------------------------

    async def _status(self) -> AsyncIterator[RunReply]:
        yield self._last()

    def _last(self) -> RunReply:
        """How the run is, as the last word."""
        return RunReply(status=status(self._run), done=Done())

    async def _explain(self) -> AsyncIterator[RunReply]:
        # Imported here: most runs are never asked.
        from swarmtrain.coordinator.clients.explain import explain

        yield RunReply(diagnosis=await explain(self._run), done=Done())

    async def _events(self, request: EventsRequest, channel: Channel) -> AsyncIterator[RunReply]:
        seen = request.after
        async for _ in self._beats(channel, follow=request.follow):
            for event in self._run.journal.events[seen:]:
                seen = event.seq
                yield RunReply(event=event.dump())
        yield RunReply(done=Done())

    async def _metrics(self, request: MetricsRequest, channel: Channel) -> AsyncIterator[RunReply]:
        reader = RecordsReader(self._run.progress.path, request.after)
        async for _ in self._beats(channel, follow=request.follow):
            # In a thread, as a long output: of a long run it takes a while to leave out what the client has.
            while fresh := await asyncio.to_thread(reader.read, 1000):
                yield RunReply(metrics=fresh)
        yield RunReply(done=Done(after=reader.after))

    async def _series(self, request: SeriesRequest) -> AsyncIterator[RunReply]:
        from swarmtrain.coordinator.store.series.query import Query

        answers = Query(self._run.progress.series.store(), request, self._run.journal.clock.now()).answers()
        async for series in _beside(answers):
            yield RunReply(series=series)
        yield RunReply(done=Done())

    async def _test_alerts(self) -> AsyncIterator[RunReply]:
        from swarmtrain.coordinator.clients.alerts import test

        async for answer in test(self._run):
            yield RunReply(alert_answer=answer)
        yield RunReply(done=Done())

    async def _logs(self, request: LogsRequest, channel: Channel) -> AsyncIterator[RunReply]:
        output = self._run.output
        wanted = _filter(request, self._run.journal.clock.now())
        follow, count = request.follow, request.tail
        # What is in the file now and what is not yet; it may grow while it is read.
        end = output.path.stat().st_size
        going_on = [] if follow else output.unfinished(wanted)
        if count is not None:
            last = [*await asyncio.to_thread(tail, output.path, wanted, count, end), *going_on]
            for lines in _batches(iter(last[-count:] if count else ())):
                yield RunReply(lines=lines)
        elif not follow:
            reader = Reader(output.path, wanted, end=end)
            everything = in_order(itertools.chain(reader.lines(), reader.rest(), going_on))
            async for lines in _beside(_batches(everything)):
                yield RunReply(lines=lines)
        if follow:
            reader = Reader(output.path, wanted, end if count is not None else 0)
            unfinished = self._unfinished(wanted, asked=request.unfinished)
            # Said once: whoever looks for the last lines with a pattern waits for it.
            caught_up = iter([RunReply(caught_up=True)])
            async for _ in self._beats(channel, follow=True):
                async for lines in _fresh(reader):
                    yield RunReply(lines=lines)
                for reply in caught_up:
                    yield reply
                for reply in unfinished():
                    yield reply
            for lines in _batches(reader.rest()):
                yield RunReply(lines=lines)
        yield RunReply(done=Done())

    async def _watch(self, request: WatchRequest, channel: Channel) -> AsyncIterator[RunReply]:
        path = self._run.output.path
        seen, start = request.after, 0
        if request.tail is not None:
            start = path.stat().st_size
            last = await asyncio.to_thread(tail, path, Filter(), request.tail, start)
            for lines in _batches(iter(last)):
                yield RunReply(lines=lines)
        reader = Reader(path, Filter(), start)
        shown = 0.0
        unfinished = self._unfinished(Filter(), asked=request.unfinished)
        async for _ in self._beats(channel, follow=True):
            for event in [e for e in self._run.journal.events[seen:] if not isinstance(e, Ended)]:
                seen = event.seq
                yield RunReply(event=event.dump())
            if request.output:
                async for lines in _fresh(reader):
                    yield RunReply(lines=lines)
                for reply in unfinished():
                    yield reply
            if self._now() - shown > _STATUS_SECONDS:
                shown = self._now()
                yield RunReply(status=status(self._run))
        if request.output:
            for lines in _batches(reader.rest()):
                yield RunReply(lines=lines)
        for event in self._run.journal.events[seen:]:
            yield RunReply(event=event.dump())
        yield self._last()

    def _unfinished(self, wanted: Filter, *, asked: bool) -> Callable[[], Iterator[RunReply]]:
        """What tells, at each call, the lines that go on, if the client asked for them and they have changed."""
        told: list[Line] = []

        def tell() -> Iterator[RunReply]:
            nonlocal told
            lines = self._run.output.unfinished(wanted) if asked else []
            if lines != told:
                told = lines
                yield RunReply(unfinished=lines)

        return tell

    async def _beats(self, channel: Channel, *, follow: bool) -> AsyncIterator[None]:
        """Once now; when following, again whenever something is new, and a last time after the end.

        Who has hung up may be told nothing for long, so that no answer would find it out.
        """
        while True:
            over = self._run.phase is Phase.ENDED or not follow or channel.hung_up
            yield
            if over:
                return
            await self._run.notifier.wait(_SIGN_OF_LIFE)
            await asyncio.sleep(0.03)  # let a burst gather

    # ---- acting ----------------------------------------------------------------------------------------------

    async def _stop(self, request: StopRequest, channel: Channel) -> AsyncIterator[RunReply]:
        if not request.reason:
            actions.stop(self._run)
        elif not actions.refuse(self._run, request.reason):
            yield self._last()
            return
        async for _ in self._beats(channel, follow=True):
            pass
        yield self._last()

    async def _conclude(self, request: ConcludeRequest) -> AsyncIterator[RunReply]:
        if not self._run.archive:
            raise ClusterError(f"{self._run.secret.run} has a coordinator, which says how it ends")
        actions.conclude(self._run, Outcome(request.outcome), request.reason)
        yield self._last()

    async def _resize(self, request: ResizeRequest) -> AsyncIterator[RunReply]:
        actions.check_resize(self._run, request.nodes)
        actions.resize(self._run, request.nodes)
        yield self._last()

    async def _note(self, request: NoteRequest) -> AsyncIterator[RunReply]:
        event = actions.note(self._run, request.kind, request.text)
        yield RunReply(event=event.dump(), done=Done())


def _refusal(error: SwarmtrainError) -> Message:
    return dump(RunReply(error=ErrorReply(error.message, error.hint, error.exit_code)))


def _filter(request: LogsRequest, now: float) -> Filter:
    return Filter(
        ranks=frozenset(request.ranks),
        nodes=frozenset(request.nodes),
        since=request.since if request.since >= 0 else now + request.since,
    )


async def _fresh(reader: Reader) -> AsyncIterator[list[Line]]:
    """Read what there is to read now: mostly a few lines, for which a thread would cost more than they do."""
    batches, is_long = _batches(reader.lines()), reader.behind() > _LONG
    if is_long:
        async for lines in _beside(batches):
            yield lines
    for lines in batches:
        yield lines


async def _beside(batches: Iterator[T]) -> AsyncIterator[T]:
    """Read a file that may be long in a thread: leases are kept, and others answered, meanwhile."""
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        yield batch


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line.text) + 64
        if size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
