"""The roll of a run: its agents by name, what has become of each, and their copies of the journal."""

from __future__ import annotations

from swarmtrain.coordinator.core.generation import Generation
from swarmtrain.coordinator.runtime.peers import Peer
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.protocol.to_agent import JournalPiece, ToAgent

SILENCE = 15.0  # seconds without a word after which a connection is given up
_BATCH = 50  # events in one message


class Roll:
    """Every agent that has joined, and those that a restarted coordinator expects back.

    Args:
        journal: of which each agent keeps a copy.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.peers: dict[str, Peer] = {}
        # What agents are called, by their id and own name: as the journal knows, and as it has not been told yet.
        self._names = dict(journal.state.names)

    # ---- names and places ------------------------------------------------------------------------------------

    def name_of(self, peer: Peer) -> str:
        """Machines of one name are told apart by their ids, and each keeps the name it got."""
        key = (peer.node_id, peer.node)
        for name, known in self.peers.items():
            # Where the journal no longer tells of its machine's joining, it has the name that it says.
            if not known.node_id and (known.incarnation == peer.incarnation or name == peer.node):
                self._names.setdefault(key, name)
        if key not in self._names:
            taken = {*self._names.values(), *self.peers}
            numbered = (f"{peer.node}-{n}" for n in range(2, 99))
            self._names[key] = next(name for name in (peer.node, *numbered) if name not in taken)
        return self._names[key]

    def enter(self, peer: Peer) -> None:
        """An agent takes the place of its name; whoever had it before does not get it back."""
        before = self.peers.get(peer.node)
        if before is not None:
            before.hang_up()
        self.peers[peer.node] = peer

    def replaced(self, peer: Peer) -> bool:
        """Whether another agent has joined in this one's place: two of them would replace each other for ever."""
        return peer.incarnation in self._journal.state.replaced

    def expect(self, generation: Generation, gone: float) -> None:
        """A coordinator that is started again expects the agents of a generation back.

        What the journal has lost of one, because the disk has damaged it, its agent says anew.

        Args:
            gone: monotonic time from which their lease counts.
        """
        joined = self._journal.state.joined
        for node, part in generation.parts.items():
            known = joined.get(node)
            self.peers[node] = Peer(
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

    def missing(self, generation: Generation, lease: float) -> list[Peer]:
        """Members with workers left that are gone or silent: when others fail, they fell because of these.

        Args:
            lease: seconds of silence that count.
        """
        now = self._journal.clock.monotonic()
        return [
            peer
            for peer in self.peers.values()
            if peer.node in generation.parts and not peer.idle
            if now >= (peer.heard + lease if peer.gone is None else peer.gone)
        ]

    def drop_the_silent(self) -> None:
        """Give up the connections on which nothing comes any more."""
        now = self._journal.clock.monotonic()
        for peer in self.peers.values():
            if peer.channel is not None and now - peer.heard > SILENCE:
                peer.channel.abort()

    def slept(self, seconds: float) -> None:
        """Nobody could be heard for so long, so nothing of that time counts as silence."""
        for peer in self.peers.values():
            peer.heard += seconds
            if peer.gone is not None:
                peer.gone += seconds

    # ---- what they are told ----------------------------------------------------------------------------------

    def post(self, message: ToAgent) -> None:
        """Tell every agent."""
        for peer in self.peers.values():
            peer.post(message)

    def publish(self) -> None:
        """Bring every agent's copy of the journal up to date."""
        for peer in self.peers.values():
            self.share(peer)

    def share(self, peer: Peer) -> None:
        """Bring an agent's copy of the journal up to date."""
        events = self._journal.events
        while peer.channel is not None and peer.copied < len(events):
            batch = events[peer.copied : peer.copied + _BATCH]
            peer.copied += len(batch)
            peer.post(JournalPiece([event.dump() for event in batch]))
