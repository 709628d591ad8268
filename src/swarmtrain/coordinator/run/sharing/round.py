"""One time that nodes are asked how their files stand, and ordered to have versions of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from swarmtrain.coordinator.core.sharing.decisions import LostNode, NodeFiles, SharingPlan
from swarmtrain.coordinator.core.sharing.large import too_large
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.protocol.shared_files import BringShared, SetVersion, SharedReport
from swarmtrain.wire.channel import Channel

_NO_RANK = 1 << 30
_SOURCES = 4  # nodes that are named for one content


@dataclass
class Round:
    """One time that nodes are asked and brought to a version.

    Attributes:
        number: in questions, orders and answers.
        asked: which nodes, by which connections.
        paths: of the sets that it is about; None: all.
        said: what they have answered.
        ahead: seconds by which their clocks are ahead of this one.
        large: paths of sets that they have too many files of, together; they count for nothing.
        bystanders: who was asked, too, but is not waited for for long.
    """

    number: int
    asked: Mapping[str, Channel | None]
    began: float
    paths: list[str] | None = None
    said: dict[str, SharedReport] = field(default_factory=dict)
    ahead: dict[str, float] = field(default_factory=dict)
    parts: dict[str, SharedReport] = field(default_factory=dict)  # of which more follows
    plan: SharingPlan | None = None
    waiting: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    large: list[str] = field(default_factory=list)
    bystanders: dict[str, Channel | None] = field(default_factory=dict)
    is_told: bool = False

    def hear(self, node: str, said: SharedReport, now: float) -> bool:
        """Take a part of a node's answer, which has come at a Unix time; whether that was all of it."""
        before = self.parts.pop(node, None)
        whole = before.joined(said) if before is not None else said
        (self.parts if whole.more else self.said)[node] = whole
        self.ahead[node] = said.clock - now if said.clock else 0.0
        return not whole.more

    def is_of(self, agents: Mapping[str, ConnectedAgent]) -> bool:
        """Whether these agents were asked, on the connections that they have."""
        return {node: agent.channel for node, agent in agents.items()} == self.asked

    def silent(self) -> set[str]:
        """Those that were asked and have not answered."""
        return self.asked.keys() - self.said.keys()

    def files(self) -> dict[str, NodeFiles]:
        """What has been said, for `core.sharing`; it finds out what is too large."""
        found = {}
        for node, said in self.said.items():
            sets = {each.path: each for each in said.sets}
            rank = said.first_ranks.get(node, _NO_RANK)
            found[node] = NodeFiles(rank, said.fence, sets, said.writing, self.ahead[node], self._lost(said))
        self.large = too_large(each.sets.values() for each in found.values())
        if not self.large:
            return found
        return {
            node: replace(each, sets={p: its for p, its in each.sets.items() if p not in self.large})
            for node, each in found.items()
        }

    def _lost(self, said: SharedReport) -> dict[str, LostNode]:
        """Who took part in a node's last generation, and is not there or with nothing of what it had then.

        By what the node remembers, for that may have been in a run before.
        """
        there = {node for node, each in self.said.items() if each.fence >= said.fence}
        return {
            node: LostNode(rank, said.ranks_since.get(node, 0))
            for node, rank in said.first_ranks.items()
            if node not in there
        }

    def order(
        self,
        agent: ConnectedAgent,
        how: Literal["note", "store", "place"],
        versions: Iterable[SetVersion],
        sources: Mapping[str, Sequence[str]],
        *,
        urgent: bool = False,
    ) -> None:
        """Have an agent do something about versions.

        Args:
            sources: the nodes that have a content, by its hash.
            urgent: as in `BringShared`.
        """
        wanted = list(versions)
        contents = {file.sha256 for version in wanted for file in version.files}
        addresses = {
            sha256: [
                self.said[peer].address
                for peer in sources[sha256]
                if peer != agent.node and self.said[peer].address
            ][:_SOURCES]
            for sha256 in contents & sources.keys()
        }
        for part in BringShared(self.number, how, wanted, addresses, urgent=urgent).parts():
            agent.post(part)
