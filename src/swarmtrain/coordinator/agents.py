"""The coordinator's side of the channel to the agents: who may speak, and what their messages mean."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from swarmtrain.coordinator.clients import ClientDesk
from swarmtrain.coordinator.door import Door
from swarmtrain.coordinator.peers import Peer
from swarmtrain.coordinator.run import Run
from swarmtrain.coordinator.terms import Phase
from swarmtrain.coordinator.words import Words
from swarmtrain.errors import ChannelError
from swarmtrain.protocol.events import StrangerRefused
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.clock import RunClock
from swarmtrain.wire.frames import Message

# What an agent says of itself when it joins, beside what `welcome` and `tell` read.
_SAID: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("node", "node_id", "incarnation", "address", "interface", "why", "backend"), str),
    **dict.fromkeys(("slot", "workers", "port", "gpus", "generation"), int),
    **dict.fromkeys(("idle", "warm", "leaving"), bool),
    "time": (int, float),
}
_DRIFT = 5e-4  # seconds between two beats by which clocks may drift apart: a thousand times what is usual


class AgentDesk:
    """Serves agents, and clients that come through a relay; one instance a coordinator."""

    def __init__(self, run: Run, clients: ClientDesk) -> None:
        self._run, self._clients = run, clients
        self._words = Words(run)
        self._door = Door(
            run.ticket.token,
            lambda text: run.journal.append(StrangerRefused(text=text)),
            run.journal.clock.clock,
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from the first byte to the last."""
        channel = Channel(reader, writer)
        try:
            message = await self._door.admit(channel)
            join = message.get("join")
            if not isinstance(join, dict):
                raise ChannelError("an agent said something else before it joined")
            if join.get("role") == "client":
                await self._clients.attend(channel)
            else:
                await self._attend(channel, join)
        except (ChannelError, ConnectionError, TimeoutError, asyncio.TimeoutError) as error:
            self._door.refuse(channel, error)
        finally:
            channel.close()

    async def _attend(self, channel: Channel, join: Message) -> None:
        run = self._run
        allowed = run.task.node_names
        peer, is_agent = _peer(channel, join, run.journal.clock), join.get("role") == "agent"
        if is_agent and allowed and peer.node not in allowed:
            await self._refuse(channel, f"this run takes {', '.join(allowed)} only, not {peer.node}")
            return
        if is_agent and run.roll.replaced(peer):
            await self._refuse(channel, f"another agent has taken the place of this one on {peer.node}")
            return
        if is_agent:
            peer = self._words.join(peer)
        elif run.phase is Phase.ENDED:
            run.roll.peers[peer.node] = peer
        else:
            await self._refuse(channel, "the run has not ended: its agents serve its files")
            return
        try:
            self._welcome(channel, peer, copied(run, join))
            if is_agent:
                with _understanding(peer):
                    self._words.tell(peer, join["states"])
            while (message := await channel.receive()) is not None:
                if run.roll.peers.get(peer.node) is not peer:
                    break  # another agent has taken its place
                peer.heard = run.journal.clock.monotonic()
                with _understanding(peer):
                    self._hear(peer, message)
        finally:
            if peer.channel is channel:
                self._words.left(peer)

    async def _refuse(self, channel: Channel, why: str) -> None:
        """Send an agent away for good; by which coordinator, it hears as in a welcome."""
        await channel.send({"refuse": why, "moved": self._run.moved})

    def _welcome(self, channel: Channel, peer: Peer, copied: int) -> None:
        """Tell an agent where it is, and how much of its output is known, before anything else is said to it."""
        run = self._run
        channel.post(
            {
                "welcome": {
                    "run": run.ticket.run,
                    "node": peer.node,
                    "directory": run.place.directory,
                    "lineage": run.place.lineage,
                    "lineage_owner": run.place.lineage_owner,
                    "offsets": [
                        *(["output", *key, offset] for key, offset in run.output.offsets.items()),
                        *(["metrics", *key, offset] for key, offset in run.progress.offsets.items()),
                    ],
                    "generation": run.current.generation.number,
                    "moved": run.moved,
                }
            }
        )
        peer.copied = copied
        run.roll.share(peer)
        run.bell.ring()

    def _hear(self, peer: Peer, message: Message) -> None:
        run, words = self._run, self._words
        match message:
            case {"beat": sent, "pulses": pulses}:
                peer.clock = _clock(run.journal.clock.now() - sent, peer.clock)
                words.beat(peer, pulses)
                peer.post({"beat": True})
            case {"output": {"g": generation, "r": rank, "o": offset, "d": text, **more}}:
                now = run.journal.clock.now()
                known = run.output.append(
                    (generation, rank), peer.node, now, offset, text, last=bool(more.get("last"))
                )
                peer.post({"ack": {"kind": "output", "g": generation, "r": rank, "o": known}})
                run.bell.ring()
            case {"metrics": {"g": generation, "r": rank, "o": offset, "d": text}}:
                known = run.progress.append(generation, rank, peer.node, offset, text)
                peer.post({"ack": {"kind": "metrics", "g": generation, "r": rank, "o": known}})
                run.bell.ring()
            case {"worker": state}:
                words.worker(peer, state)
            case {"idle": {"g": generation, "port": port}}:
                words.idle(peer, generation, port)
            case {"drained": generation}:
                words.drained(peer, generation)
            case {"warm": _}:
                words.warm(peer)
            case {"leaving": _}:
                words.leaving(peer)
            case {"stacks": answer}:
                words.stacks(peer, answer)
            case {"trouble": text}:
                if run.phase is not Phase.ENDED:
                    words.trouble(peer, text)
            case {"note": {"kind": kind, "text": text}}:
                words.note(peer, kind, text)
            case {"reply": number, **rest}:
                queue = peer.replies.get(number)
                if queue is not None:
                    queue.put_nowait(rest)
            case _:
                raise ChannelError(f"the agent on {peer.node} sent a message this version does not know")


def copied(run: Run, join: Message) -> int:
    """How many events of the journal an agent has; a helper keeps none.

    A copy with other events than the journal is made anew: a full disk may have kept these from the journal.
    """
    if join["role"] != "agent":
        return 1 << 62
    count, events = int(join["journal"]), run.journal.events
    is_same = 0 < count <= len(events) and events[count - 1].t == join.get("journal_t")
    return count if is_same and join["moved"] == run.moved else 0


@contextlib.contextmanager
def _understanding(peer: Peer) -> Iterator[None]:
    """What an agent says may be nonsense, whoever it is: that ends its connection, and nothing else."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ChannelError(f"the agent on {peer.node} sent what makes no sense: {error!r}") from error


def _peer(channel: Channel, join: Message, clock: RunClock) -> Peer:
    for name, kind in _SAID.items():
        if not isinstance(join.get(name), kind):
            raise ChannelError(f"an agent joined without saying its {name}")
    now = clock.monotonic()
    said = {name: join[name] for name in _SAID}
    offset = _clock(clock.now() - said.pop("time"))
    return Peer(**said, drained=False, joined=now, channel=channel, heard=now, clock=offset)


def _clock(seen: float, known: float | None = None) -> float:
    """What to add to an agent's monotonic time to have the run's: what was seen with the least delay in it.

    Nobody sets either clock, but one may run a little faster: what is known gives way slowly.
    """
    return seen if known is None else min(seen, known + _DRIFT)
