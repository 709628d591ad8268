"""The coordinator's side of the channel to the agents: who may speak, and what their messages mean."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Literal

from swarmtrain.coordinator.agents.messages import AgentMessages
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.coordinator.store.metrics import MetricsStore
from swarmtrain.coordinator.store.output import OutputStore
from swarmtrain.errors import ChannelError
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.from_agent import (
    FROM_AGENT,
    Answer,
    Beat,
    CopyState,
    Drained,
    FromAgent,
    Idle,
    Join,
    Joiner,
    Leaving,
    MeasuredPiece,
    MetricsPiece,
    NoteReport,
    OutputPiece,
    StacksReport,
    TroubleReport,
    Warm,
    WorkerReport,
)
from swarmtrain.protocol.journal.remarks import StrangerRefused
from swarmtrain.protocol.shared_files import SharedBrought, SharedReport
from swarmtrain.protocol.to_agent import Acknowledge, BeatHeard, KnownOffset, Refuse, SendLater, Welcome
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.clock import RunClock
from swarmtrain.wire.door import Door
from swarmtrain.wire.frames import Message

_ALL = 1 << 62  # events: of a helper, which keeps no copy
_DRIFT = 5e-4  # seconds between two beats by which clocks may drift apart: a thousand times what is usual


class AgentConnections:
    """Serves agents; one instance a coordinator.

    Args:
        attend_client: serves a client that has come through a relay.
    """

    def __init__(self, run: RunController, attend_client: Callable[[Channel], Awaitable[None]]) -> None:
        self._run, self._attend_client = run, attend_client
        self._messages = AgentMessages(run)
        self._door = Door(
            run.secret.token,
            lambda text: run.journal.append(StrangerRefused(text=text)),
            run.journal.clock.clock,
            readers=True,
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from the first byte to the last."""
        channel = Channel(reader, writer)
        try:
            join = joined(await self._door.admit(channel))
            if join.role == "client":
                await self._attend_client(channel)
            elif channel.is_reader:
                raise ChannelError("a reader said that it is an agent")
            elif join.who is not None:
                await self._attend(channel, join.who, is_agent=join.role == "agent")
        except (ChannelError, ConnectionError, TimeoutError, asyncio.TimeoutError) as error:
            self._door.refuse(channel, error)
        finally:
            channel.close()

    async def _attend(self, channel: Channel, who: Joiner, *, is_agent: bool) -> None:
        run = self._run
        allowed = run.spec.node_names
        agent = _agent(channel, who, run.journal.clock)
        if is_agent and allowed and agent.node not in allowed:
            await self._refuse(channel, f"this run takes {', '.join(allowed)} only, not {agent.node}")
            return
        if is_agent and run.members.replaced(agent):
            await self._refuse(channel, f"another agent has taken the place of this one on {agent.node}")
            return
        if is_agent:
            agent = self._messages.join(agent)
        elif run.phase is Phase.ENDED:
            run.members.connected[agent.node] = agent
        else:
            await self._refuse(channel, "the run has not ended: its agents serve its files")
            return
        try:
            self._welcome(
                channel, agent, copied(run, who.copy) if is_agent and who.copy is not None else _ALL
            )
            if is_agent:
                with _understanding(agent):
                    self._messages.tell(agent, who.states)
            while (message := await channel.receive()) is not None:
                if run.members.connected.get(agent.node) is not agent:
                    break  # another agent has taken its place
                agent.heard = run.journal.clock.monotonic()
                with _understanding(agent):
                    self._hear(agent, FROM_AGENT.load(message))
        finally:
            if agent.channel is channel:
                self._messages.left(agent)

    async def _refuse(self, channel: Channel, why: str) -> None:
        """Send an agent away for good; by which coordinator, it hears as in a welcome."""
        await channel.send(dump(Refuse(why, self._run.moved)))

    def _welcome(self, channel: Channel, agent: ConnectedAgent, copied: int) -> None:
        """Tell an agent where it is, and how much of its output is known, before anything else is said to it."""
        run = self._run
        offsets = [
            *(
                KnownOffset("output", *key, offset)
                for key, offset in run.output.offsets_of(agent.node).items()
            ),
            *(
                KnownOffset("metrics", *key, offset)
                for key, offset in run.progress.offsets_of(agent.node).items()
            ),
            *(
                KnownOffset("measured", number, -1, offset)
                for number, offset in run.progress.series.offsets_of(agent.node).items()
            ),
        ]
        place = run.place
        welcome = Welcome(
            run=run.secret.run,
            node=agent.node,
            directory=place.directory,
            lineage=place.lineage,
            lineage_owner=place.lineage_owner,
            offsets=offsets,
            generation=run.current.generation.number,
            moved=run.moved,
        )
        channel.post(dump(welcome))
        agent.copied = copied
        run.members.share(agent)
        run.notifier.ring()

    def _hear(self, agent: ConnectedAgent, message: FromAgent) -> None:
        run, messages = self._run, self._messages
        match message:
            case Beat(sent, pulses):
                agent.clock = _clock(run.journal.clock.now() - sent, agent.clock)
                messages.beat(agent, pulses)
                agent.post(BeatHeard())
            case OutputPiece(generation, rank, offset, text, last):
                key, now = (generation, rank), run.journal.clock.now()
                if not run.output.full():
                    run.output.append(key, agent.node, now, offset, text, last=last)
                self._acknowledge(agent, "output", key, run.output)
            case MetricsPiece(generation, rank, offset, text, boot):
                if not run.progress.full():
                    shift = agent.clock - boot if boot else None
                    run.progress.append(generation, rank, agent.node, offset, text, shift)
                self._acknowledge(agent, "metrics", (generation, rank), run.progress)
            case MeasuredPiece():
                self._take_measured(agent, message)
            case WorkerReport():
                messages.worker(agent, message)
            case Idle():
                messages.idle(agent, message)
            case Drained():
                messages.drained(agent, message)
            case Warm():
                messages.warm(agent)
            case Leaving():
                messages.leaving(agent)
            case StacksReport():
                messages.stacks(agent, message)
            case TroubleReport():
                if run.phase is not Phase.ENDED:
                    messages.trouble(agent, message)
            case NoteReport():
                messages.note(agent, message)
            case SharedReport():
                run.sharing.hear_report(agent, message)
            case SharedBrought():
                run.sharing.hear_brought(agent, message)
            case Answer(number, reply):
                queue = agent.replies.get(number)
                if queue is not None:
                    queue.put_nowait(reply)
            case _:
                raise ChannelError("what has no place here")

    def _take_measured(self, agent: ConnectedAgent, piece: MeasuredPiece) -> None:
        series, key = self._run.progress.series, (piece.number, -1)
        if series.full():
            agent.post(SendLater("measured", *key))
            return
        known = series.append(agent.node, piece.number, piece.offset, piece.text, agent.clock - piece.boot)
        agent.post(Acknowledge("measured", *key, known))

    def _acknowledge(
        self,
        agent: ConnectedAgent,
        kind: Literal["output", "metrics"],
        key: tuple[int, int],
        store: OutputStore | MetricsStore,
    ) -> None:
        """Say how much of a rank's file is on the disk here, or that the disk is full."""
        known = store.offsets.get(key, 0)
        agent.post(SendLater(kind, *key) if store.full() else Acknowledge(kind, *key, known))
        self._run.notifier.ring()
        self._run.look_at_disk()


def joined(message: Message) -> Join:
    """The first message of who has proved himself.

    Raises:
        ChannelError: he does not say who he is.
    """
    try:
        join = FROM_AGENT.load(message)
    except ChannelError as error:
        raise ChannelError(f"an agent joined without saying who it is: {error.message}") from None
    if not isinstance(join, Join) or (join.who is None and join.role != "client"):
        raise ChannelError("an agent said something else before it joined")
    return join


def copied(run: RunController, copy: CopyState) -> int:
    """How many events of the journal an agent has.

    A copy with other events than the journal is made anew: a full disk may have kept these from the journal.
    """
    count, events = copy.count, run.journal.events
    is_same = 0 < count <= len(events) and events[count - 1].time == copy.newest
    return count if is_same and copy.moved == run.moved else 0


@contextlib.contextmanager
def _understanding(agent: ConnectedAgent) -> Iterator[None]:
    """What an agent says may be nonsense, whoever it is: that ends its connection, and nothing else."""
    try:
        yield
    except ChannelError as error:
        raise ChannelError(f"the agent on {agent.node} sent what makes no sense: {error.message}") from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ChannelError(f"the agent on {agent.node} sent what makes no sense: {error!r}") from error


def _agent(channel: Channel, who: Joiner, clock: RunClock) -> ConnectedAgent:
    now = clock.monotonic()
    return ConnectedAgent(
        node=who.node,
        node_id=who.node_id,
        incarnation=who.incarnation,
        slot=who.slot,
        workers=who.workers,
        address=who.address,
        interface=who.interface,
        why=who.why,
        port=who.port,
        joined=now,
        gpus=who.gpus,
        backend=who.backend,
        channel=channel,
        generation=who.generation,
        idle=who.idle,
        drained=False,
        warm=who.warm,
        leaving=who.leaving,
        clock=_clock(clock.now() - who.time),
        ahead=who.clock - clock.now() if who.clock else 0.0,
        heard=now,
    )


def _clock(seen: float, known: float | None = None) -> float:
    """What to add to an agent's monotonic time to have the run's: what was seen with the least delay in it.

    Nobody sets either clock, but one may run a little faster: what is known gives way slowly.
    """
    return seen if known is None else min(seen, known + _DRIFT)
