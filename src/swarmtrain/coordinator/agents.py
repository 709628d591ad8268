"""The coordinator's side of the channel to the agents: who may speak, and what their messages mean."""

from __future__ import annotations

import asyncio
import sys
import time

from swarmtrain.coordinator.clients import ClientDesk
from swarmtrain.coordinator.peers import Peer
from swarmtrain.coordinator.run import Run
from swarmtrain.coordinator.terms import Phase
from swarmtrain.coordinator.words import Words
from swarmtrain.errors import ChannelError
from swarmtrain.wire.channel import HANDSHAKE_SECONDS, Channel, accept
from swarmtrain.wire.frames import Message

_KNOCKERS = 64  # connections that may be proving themselves at one time


class AgentDesk:
    """Serves agents, and clients that come through a relay; one instance a coordinator."""

    def __init__(self, run: Run, clients: ClientDesk) -> None:
        self._run, self._clients = run, clients
        self._words = Words(run)
        self._knocking = asyncio.Semaphore(_KNOCKERS)
        self._refused = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from the first byte to the last."""
        channel = Channel(reader, writer)
        if self._knocking.locked():  # too many strangers at the door; an agent tries again
            channel.close()
            return
        try:
            async with self._knocking:
                await accept(channel, self._run.ticket.token)
            message = await asyncio.wait_for(channel.receive(), HANDSHAKE_SECONDS)
            if message is None or "join" not in message:
                raise ChannelError("an agent said something else before it joined")
            if message["join"]["role"] == "client":
                await self._clients.attend(channel)
            else:
                await self._attend(channel, message["join"])
        except (ChannelError, ConnectionError, TimeoutError, asyncio.TimeoutError) as error:
            self._refuse(writer, error)
        finally:
            channel.close()

    def _refuse(self, writer: asyncio.StreamWriter, error: Exception) -> None:
        """Say once in the journal, and each time on stderr, who was turned away: noise must not fill the disk."""
        peer = writer.get_extra_info("peername") or "a local process"
        text = f"refused a connection from {peer}: {error or 'it said nothing for too long'}"
        print(text, file=sys.stderr, flush=True)
        self._refused += 1
        if self._refused == 1:
            self._run.journal.append("refused", text)

    async def _attend(self, channel: Channel, join: Message) -> None:
        run = self._run
        allowed = run.task.node_names
        if join["role"] == "agent" and allowed and join["node"] not in allowed:
            await channel.send({"refuse": f"this run takes {', '.join(allowed)} only, not {join['node']}"})
            return
        peer = _peer(channel, join)
        if join["role"] == "agent" and run.roll.replaced(peer):
            await channel.send({"refuse": f"another agent has taken the place of this one on {peer.node}"})
            return
        if join["role"] == "agent":
            peer = self._words.join(peer)
        elif run.phase is Phase.ENDED:
            run.roll.peers[peer.node] = peer
        else:
            await channel.send({"refuse": "the run has not ended: its agents serve its files"})
            return
        try:
            self._welcome(channel, peer, copied(run, join))
            if join["role"] == "agent":
                self._words.tell(peer, join["states"])
            while (message := await channel.receive()) is not None:
                if run.roll.peers.get(peer.node) is not peer:
                    break  # another agent has taken its place
                peer.heard = time.monotonic()
                self._hear(peer, message)
        finally:
            if peer.channel is channel:
                self._words.left(peer)

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
                peer.clock = _clock(peer.clock, sent)
                words.beat(peer, pulses)
                peer.post({"beat": True})
            case {"output": {"g": generation, "r": rank, "o": offset, "t": when, "d": text}}:
                known = run.output.append(generation, rank, peer.node, when + peer.clock, offset, text)
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
    is_same = 0 < count <= len(events) and events[count - 1]["t"] == join.get("journal_t")
    return count if is_same and join["moved"] == run.moved else 0


def _peer(channel: Channel, join: Message) -> Peer:
    now = time.monotonic()
    try:
        return Peer(
            node=join["node"],
            node_id=join["node_id"],
            incarnation=join["incarnation"],
            slot=join["slot"],
            workers=join["workers"],
            address=join["address"],
            interface=join["interface"],
            why=join["why"],
            port=join["port"],
            gpus=join["gpus"],
            backend=join["backend"],
            joined=now,
            channel=channel,
            heard=now,
            generation=join["generation"],
            idle=join["idle"],
            drained=join["drained"],
            warm=join["warm"],
            leaving=join["leaving"],
            clock=_clock(0.0, join["time"]),
        )
    except (KeyError, TypeError) as error:
        raise ChannelError(f"an agent joined without saying {error}") from error


def _clock(known: float, sent: float) -> float:
    """What to add to a peer's clock: the smallest difference seen is the one with the least delay in it.

    A difference below a tenth of a second is taken for delay, not for clocks that disagree.
    """
    seen = time.time() - sent
    offset = seen if known == 0.0 else min(known, seen)
    return offset if abs(offset) > 0.1 else 0.0
