"""A generation: one attempt with fixed members, ranks and master; as the journal keeps it and agents hear it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from swarmtrain.coordinator.journal import Event
from swarmtrain.coordinator.peers import Peer, Worker
from swarmtrain.coordinator.terms import Formation
from swarmtrain.wire.frames import Message
from swarmtrain.wire.plural import counted, plural


@dataclass(frozen=True)
class Part:
    """What one node has in a generation."""

    incarnation: str  # of the agent that was asked; another one has no part in it
    ranks: list[int]
    group_rank: int


@dataclass(frozen=True)
class Generation:
    """Members, ranks and master of one attempt; number 0 is the time before the first."""

    number: int = 0
    parts: Mapping[str, Part] = field(default_factory=dict)
    backend: str = ""
    master: Mapping[str, Any] | None = None

    @staticmethod
    def of(number: int, formation: Formation, peers: Mapping[str, Peer]) -> Generation:
        """The generation that a formation of these peers makes."""
        parts = {
            each.node: Part(peers[each.node].incarnation, list(each.ranks), each.group_rank)
            for each in formation.assignments
        }
        master = formation.master
        return Generation(
            number,
            parts,
            # One backend for all: NCCL needs a GPU for every worker, wherever it is.
            "nccl" if all(peers[node].backend == "nccl" for node in parts) else "gloo",
            {"node": master.node, "address": master.address, "port": master.port},
        )

    @staticmethod
    def load(event: Event) -> Generation:
        """The generation of a journal's event."""
        parts = {node: Part(**part) for node, part in event["parts"].items()}
        return Generation(event["generation"], parts, event["backend"], event["master"])

    def dump(self) -> dict[str, Any]:
        """What the journal's event keeps of it."""
        return {
            "generation": self.number,
            "parts": {node: asdict(part) for node, part in self.parts.items()},
            "backend": self.backend,
            "master": self.master,
        }

    @property
    def world_size(self) -> int:
        """All ranks together."""
        return sum(len(part.ranks) for part in self.parts.values())

    def sentence(self) -> str:
        """The generation in words."""
        assert self.master is not None, "there are no words for the time before the first generation"
        ranks = counted(self.world_size, "rank")
        where = "{node} ({address}:{port})".format(**self.master)
        return f"generation {self.number}: {ranks} on {', '.join(self.parts)}; master {where}"

    def rank_words(self, node: str) -> str:
        """A node's ranks in words."""
        ranks = self.parts[node].ranks if node in self.parts else []
        return f"{plural(len(ranks), 'rank')} {', '.join(map(str, ranks))}"

    def workers(self, state: str = "starting") -> dict[int, Worker]:
        """Its workers by rank."""
        return {
            rank: Worker(rank, local_rank, node, state)
            for node, part in self.parts.items()
            for local_rank, rank in enumerate(part.ranks)
        }

    def start(self, node: str) -> Message:
        """What a node is told to begin with."""
        part = self.parts[node]
        return {
            "g": self.number,
            "ranks": part.ranks,
            "group_rank": part.group_rank,
            "nodes": len(self.parts),
            "world_size": self.world_size,
            "backend": self.backend,
            "master": self.master,
        }

    def absent_peers(self, joined: Mapping[str, Event], gone: float) -> dict[str, Peer]:
        """Its agents as a coordinator that starts again expects them back.

        Args:
            joined: the last event of each node's joining; of one that the disk has damaged, its agent says it anew.
            gone: monotonic time from which their lease counts.
        """
        return {
            node: Peer(
                node=node,
                node_id=joined.get(node, {}).get("node_id", ""),
                incarnation=part.incarnation,
                slot=0,
                workers=len(part.ranks),
                address=joined.get(node, {}).get("address", ""),
                interface=joined.get(node, {}).get("interface", ""),
                why="",
                port=0,
                joined=0.0,
                gone=gone,
                heard=gone,
                generation=self.number,
                idle=False,
                drained=False,
            )
            for node, part in self.parts.items()
        }
