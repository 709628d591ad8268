"""A generation: one attempt with fixed members, ranks and master; as the journal keeps it and agents hear it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from swarmtrain.coordinator.core.model import Candidate, Formation
from swarmtrain.protocol.facts import MasterAddress, NodePart
from swarmtrain.protocol.journal.events import GenerationFormed
from swarmtrain.protocol.schema import Struct
from swarmtrain.protocol.to_agent import StartWorkers
from swarmtrain.wire.plural import counted, plural


class Generation(Struct):
    """Members, ranks and master of one attempt; number 0 is the time before the first."""

    number: int = 0
    parts: Mapping[str, NodePart] = field(default_factory=dict)
    backend: str = ""
    master: MasterAddress | None = None

    @staticmethod
    def of(number: int, formation: Formation, members: Mapping[str, Candidate]) -> Generation:
        """The generation that a formation of these members makes."""
        parts = {
            each.node: NodePart(members[each.node].incarnation, list(each.ranks), each.group_rank)
            for each in formation.assignments
        }
        master = formation.master
        return Generation(
            number,
            parts,
            # One backend for all: NCCL needs a GPU for every worker, wherever it is.
            "nccl" if all(members[node].backend == "nccl" for node in parts) else "gloo",
            MasterAddress(master.node, master.address, master.port),
        )

    @staticmethod
    def load(event: GenerationFormed) -> Generation:
        """The generation of a journal's event."""
        return Generation(event.generation, event.parts, event.backend, event.master)

    def formed(self) -> GenerationFormed:
        """The event of its beginning."""
        assert self.master is not None, "the time before the first generation is never formed"
        return GenerationFormed(
            text=self.sentence(),
            generation=self.number,
            parts=dict(self.parts),
            backend=self.backend,
            master=self.master,
        )

    @property
    def world_size(self) -> int:
        """All ranks together."""
        return sum(len(part.ranks) for part in self.parts.values())

    def sentence(self) -> str:
        """The generation in words."""
        assert self.master is not None, "there are no words for the time before the first generation"
        ranks = counted(self.world_size, "rank")
        where = f"{self.master.node} ({self.master.address}:{self.master.port})"
        return f"generation {self.number}: {ranks} on {', '.join(self.parts)}; master {where}"

    def ranks_in_words(self, node: str) -> str:
        """A node's ranks in words."""
        ranks = self.parts[node].ranks if node in self.parts else []
        return f"{plural(len(ranks), 'rank')} {', '.join(map(str, ranks))}"

    def start(self, node: str, addresses: Mapping[str, str]) -> StartWorkers:
        """What a node is told to begin with.

        Args:
            addresses: of the nodes that are there, by their names.
        """
        assert self.master is not None, "nobody is told to begin the time before the first generation"
        part = self.parts[node]
        return StartWorkers(
            generation=self.number,
            ranks=part.ranks,
            group_rank=part.group_rank,
            nodes=len(self.parts),
            world_size=self.world_size,
            backend=self.backend,
            master=self.master,
            addresses={each: addresses[each] for each in self.parts if each in addresses},
            first_ranks={each: min(its.ranks) for each, its in self.parts.items()},
        )
