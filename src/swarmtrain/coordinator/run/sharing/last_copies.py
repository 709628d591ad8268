"""The end of a run waits for copies, for a while: what is on one node only is of no use where others take part next."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from swarmtrain.coordinator.core.sharing import catalog
from swarmtrain.coordinator.core.sharing.decisions import NodeFiles, SetDecision
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.coordinator.run.sharing.round import Round
from swarmtrain.coordinator.run.sharing.telling import shown
from swarmtrain.protocol.shared_files import SetVersion, SharedBrought

LAST = 60.0  # seconds that an end waits for copies
LAST_STOPPED = 10.0  # where somebody has asked for it


@dataclass
class LastCopies:
    """Those of one run.

    Attributes:
        round: in which its nodes are asked, and ordered.
        until: when the end waits no longer; monotonic.
        coming: which versions have been ordered and are not there yet, by node and path; None before that.
        owners: the nodes that have something of a set, by its path.
    """

    round: Round
    until: float
    coming: dict[str, dict[str, SetVersion]] | None = None
    owners: dict[str, set[str]] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)  # paths of sets of which nobody is to have a copy

    def order(
        self,
        agents: Mapping[str, ConnectedAgent],
        nodes: Mapping[str, NodeFiles],
        replicas: int,
        *,
        all_there: bool,
    ) -> list[SetDecision]:
        """All have said how their files stand: have copied what is to be; what was decided for that.

        Args:
            all_there: nobody who took part is lost, who may have written parts of what the others have.
        """
        paths, decisions = catalog.paths(nodes), list[SetDecision]()
        if all_there:
            decisions = [each for path in paths if (each := catalog.commit(path, nodes)) is not None]
        else:
            self.alone = {path for path in paths if _changed(path, nodes)}
        new = {each.version.path: each.version for each in decisions}
        old = {path: version for path in paths if (version := catalog.newest(path, nodes)) is not None}
        versions, sources, self.coming = old | new, catalog.holders(nodes), {}
        self.owners = {path: _changed(path, nodes) for path in self.alone} | {
            path: {node for file in each.files for node in sources[file.sha256]}
            for path, each in versions.items()
        }
        wanted = {path: catalog.copies(each, nodes, replicas) for path, each in versions.items()}
        for node in nodes:
            mine = {path: each for path, each in versions.items() if node in wanted[path]}
            rest = [each for path, each in new.items() if path not in mine]
            if mine:
                self.coming[node] = mine
                self.round.order(agents[node], "store", mine.values(), sources, urgent=True)
            if rest:
                self.round.order(agents[node], "note", rest, {})
        return decisions

    def hear(self, node: str, said: SharedBrought) -> None:
        """A copy is there, or has failed: what has failed is tried again there, and told of at the end."""
        if not said.failed:
            (self.coming or {}).get(node, {}).pop(said.path, None)

    def is_done(self, nodes: Collection[str]) -> bool:
        """Whether there is nothing more to wait for.

        Args:
            nodes: those that can be heard.
        """
        return self.coming is not None and not any(self.coming.get(node) for node in nodes)

    def in_words(self) -> str:
        """What has fewer copies than it should, and where that is; empty where nothing has."""
        if self.coming is None:
            silent = ", ".join(sorted(self.round.silent()))
            return f"what was written last has not been copied: {silent} did not say how its files stand"
        paths = {path for each in self.coming.values() for path in each} | self.alone
        if not paths:
            return ""
        where = ", ".join(sorted({node for path in paths for node in self.owners[path]}))
        named = shown([path or "the working directory" for path in sorted(paths)])
        return f"the run ends before other nodes have copies of {named}: `--resume` needs {where} for them"


def _changed(path: str, nodes: Mapping[str, NodeFiles]) -> set[str]:
    """The nodes that have changed a set, and have finished it."""
    reports = {node: each.sets[path] for node, each in nodes.items() if path in each.sets}
    return {node for node, report in reports.items() if report.changed and not report.writing}
