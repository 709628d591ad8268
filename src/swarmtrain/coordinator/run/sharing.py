"""The files that a run's workers write, on all of its nodes: asked for, decided by core/catalog.py, and ordered.

Before a generation is formed, its members are asked how their files stand, and brought to the newest version. While it
trains, what has come to rest on a node becomes a version, and is copied to as many other nodes as were asked for.
Nothing of this is kept here: agents remember, and tell again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from swarmtrain.coordinator.core import catalog
from swarmtrain.coordinator.core.catalog import NodeFiles, SetDecision, SharingPlan
from swarmtrain.coordinator.core.sharing.large import too_large
from swarmtrain.coordinator.run.active_generation import ActiveGeneration
from swarmtrain.coordinator.run.members import ConnectedAgent, Members
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.protocol.journal.remarks import FilesBrought, FilesShared, Warned
from swarmtrain.protocol.shared_files import (
    MOST_OF_ONE,
    AskShared,
    BringShared,
    SetVersion,
    SharedBrought,
    SharedReport,
)
from swarmtrain.wire.channel import Channel
from swarmtrain.wire.plural import counted
from swarmtrain.wire.run_spec import RunSpec

_ROUNDS = 3  # in which what could not be brought is planned anew
_BYSTANDERS = 3.0  # seconds in which nodes without a part say what they have
_LONG = 20.0  # seconds after which a wait is told of
_NO_RANK = 1 << 30
_AT_ONCE = 200  # sets about which one inquiry is
_SOURCES = 4  # nodes that are named for one content


@dataclass
class _Round:
    """One time that nodes are asked and brought to a version.

    Attributes:
        number: in questions, orders and answers.
        asked: which nodes, by which connections.
        paths: of the sets that it is about; None: all.
        said: what they have answered.
        ahead: seconds by which their clocks are ahead of this one.
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


class Sharing:
    """The shared files of one run; one instance a coordinator.

    Args:
        current: the generation that runs now, or ran last.
        go_on: called when a generation may be formed that has waited for its files.
    """

    def __init__(
        self,
        spec: RunSpec,
        journal: Journal,
        members: Members,
        current: Callable[[], ActiveGeneration],
        go_on: Callable[[], object],
    ) -> None:
        self._replicas, self._journal, self._members = spec.replicas, journal, members
        self._current, self._go_on = current, go_on
        self._now = journal.clock.monotonic
        self.is_on = spec.share != "off" and spec.nodes_max > 1
        self._number = 0
        self._gathering: _Round | None = None
        self._tries = 0
        self._inquiry: _Round | None = None
        self._changed: set[str] = set()  # sets about which an inquiry is to come
        self._told: set[str] = set()  # paths of files on which nodes differ, and of sets that are too large

    # ---- before a generation ---------------------------------------------------------------------------------

    def is_ready(self, nodes: Collection[str]) -> bool:
        """Whether these nodes have in place what they are to begin with; if not, see to that."""
        if not self.is_on:
            return True
        self._inquiry, self._changed = None, set()
        connected = self._members.connected
        agents = {node: connected[node] for node in nodes}
        current = self._gathering
        if current is None or not current.is_of(agents):
            self._tries = 0
            current = self._ask_all(agents)
        if current.plan is None:
            if silent := agents.keys() - current.said.keys():
                self._tell_of_waiting(current, silent, "look at their files")
                return False
            if self._waits_for_bystanders(current):
                return False
            self._carry_out(current)
        if current.waiting:
            self._tell_of_waiting(current, current.waiting, "are brought files")
            return False
        if current.failed and self._tries < _ROUNDS:
            self._tries += 1
            self._ask_all(agents)
            return False
        for text in current.failed:
            self._journal.append(Warned(text=f"files could not be brought: {text}"))
        current.failed = []
        return True

    def _tell_of_waiting(self, current: _Round, nodes: Collection[str], why: str) -> None:
        """A long wait is told of once, so that nobody takes it for a hang."""
        if not current.is_told and self._now() > current.began + _LONG:
            current.is_told = True
            text = f"the next generation waits until {', '.join(sorted(nodes))} {why}"
            self._journal.append(FilesShared(text=text))

    def formed(self) -> None:
        """A generation begins, and writes."""
        self._gathering = None

    def _ask_all(self, agents: Mapping[str, ConnectedAgent]) -> _Round:
        self._gathering = self._round(agents, None)
        for node, agent in self._members.connected.items():
            if node not in agents and agent.channel is not None and agent.idle:
                agent.post(AskShared(self._gathering.number))
        return self._gathering

    def _round(self, agents: Mapping[str, ConnectedAgent], paths: list[str] | None) -> _Round:
        self._number += 1
        for agent in agents.values():
            agent.post(AskShared(self._number, paths))
        asked = {node: agent.channel for node, agent in agents.items()}
        return _Round(self._number, asked, self._now(), paths)

    def _waits_for_bystanders(self, current: _Round) -> bool:
        """Whether nodes without a part, which may hold what others have lost, have not said so yet."""
        others = [
            node
            for node, agent in self._members.connected.items()
            if agent.channel is not None and agent.idle and not agent.leaving
        ]
        return self._now() < current.began + _BYSTANDERS and any(n not in current.said for n in others)

    def _carry_out(self, current: _Round) -> None:
        """Everybody has spoken: what is to be done."""
        files = self._files(current)
        current.plan = catalog.plan(files, current.asked, self._lost(files))
        for decision in current.plan.decisions.values():
            self._tell(decision)
        for node, versions in current.plan.to_bring.items():
            self._order(current, node, "place", versions, current.plan.sources)
            current.waiting.add(node)

    def _files(self, current: _Round) -> dict[str, NodeFiles]:
        found, newest = {}, self._current().generation
        for node, said in current.said.items():
            rank = newest.lowest_rank(node)
            sets = {each.path: each for each in said.sets}
            rank = _NO_RANK if rank is None else rank
            found[node] = NodeFiles(rank, said.fence, sets, said.writing, current.ahead[node])
        if large := too_large(each.sets.values() for each in found.values()):
            self._tell_of_large(large)
            return {
                node: replace(each, sets={p: its for p, its in each.sets.items() if p not in large})
                for node, each in found.items()
            }
        return found

    def _lost(self, files: Mapping[str, NodeFiles]) -> dict[str, int]:
        """Who took part in the newest generation and is not there, or with nothing of what it had: its lowest rank."""
        began = max((each.fence for each in files.values()), default=0)
        return {
            node: min(part.ranks)
            for node, part in self._current().generation.parts.items()
            if node not in files or files[node].fence < began
        }

    def _tell_of_large(self, paths: Iterable[str]) -> None:
        for path in set(paths) - self._told:
            self._told.add(path)
            where = path or "the working directory"
            text = f"what is in {where} stays where it is: the nodes have more than {MOST_OF_ONE} files there"
            self._journal.append(FilesShared(text=text))

    def _order(
        self,
        current: _Round,
        node: str,
        how: str,
        versions: Iterable[SetVersion],
        sources: Mapping[str, Sequence[str]],
    ) -> None:
        wanted = list(versions)
        contents = {file.sha256 for version in wanted for file in version.files}
        addresses = {
            sha256: [
                current.said[peer].address
                for peer in sources[sha256]
                if peer != node and current.said[peer].address
            ][:_SOURCES]
            for sha256 in contents & sources.keys()
        }
        agent = self._members.connected.get(node)
        if agent is not None:
            for part in BringShared(current.number, how, wanted, addresses).parts():  # type: ignore[arg-type]
                agent.post(part)

    # ---- while it trains -------------------------------------------------------------------------------------

    def _inquire(self) -> None:
        """Whether what has come to rest on one node has done so on all; who takes no part may have a copy, too."""
        agents = {node: agent for node, agent in self._members.connected.items() if agent.channel is not None}
        if self._current().generation.parts.keys() - agents.keys():
            return  # what one of them is about to be lost with may be a part of it
        if self._inquiry is None and self._changed:
            paths = sorted(self._changed)[:_AT_ONCE]
            self._changed -= set(paths)
            self._inquiry = self._round(agents, paths)

    def _conclude(self, current: _Round) -> None:
        """All nodes have said how these sets stand: what is finished everywhere becomes a version.

        Of what is none, the newest is ordered again where copies of it have failed.
        """
        nodes, paths = self._files(current), current.paths or []
        decisions = [each for path in paths if (each := catalog.commit(path, nodes)) is not None]
        if any(each.version.files for each in decisions):
            self._current().has_saved = True
        for decision in decisions:
            self._tell(decision)
        new = {each.version.path: each.version for each in decisions}
        old = {path: version for path in paths if (version := catalog.newest(path, nodes)) is not None}
        versions, sources = old | new, catalog.holders(nodes)
        copies = {path: catalog.copies(each, nodes, self._replicas) for path, each in versions.items()}
        for node in nodes:
            mine = [version for path, version in versions.items() if node in copies[path]]
            rest = [version for path, version in new.items() if node not in copies[path]]
            if mine:
                self._order(current, node, "store", mine, sources)
            if rest:
                self._order(current, node, "note", rest, {})

    # ---- what agents say -------------------------------------------------------------------------------------

    def hear_report(self, agent: ConnectedAgent, said: SharedReport) -> None:
        """How an agent's files stand."""
        if not self.is_on:
            return
        if said.number == 0:
            if self._gathering is None:
                self._changed |= {each.path for each in said.sets}
                self._inquire()
            return
        gathering, inquiry = self._gathering, self._inquiry
        if gathering is not None and said.number == gathering.number:
            if gathering.hear(agent.node, said, self._journal.clock.now()):
                self._go_on()
        elif inquiry is not None and said.number == inquiry.number:
            inquiry.hear(agent.node, said, self._journal.clock.now())
            if not inquiry.asked.keys() - inquiry.said.keys():
                self._inquiry = None
                self._conclude(inquiry)
                self._inquire()

    def hear_brought(self, agent: ConnectedAgent, said: SharedBrought) -> None:
        """What was ordered is in place on a node, or beside its working directory."""
        current = self._gathering
        if current is None or said.number != current.number or agent.node not in current.waiting:
            return
        current.waiting.discard(agent.node)
        current.failed += [f"{agent.node}: {each}" for each in said.failed]
        if said.files:
            what = f"{counted(said.files, 'file')} ({_bytes(said.size)})"
            text = (
                f"brought {what}{self._origin(current, agent.node)} to {agent.node} in {said.seconds:.1f} s"
            )
            self._journal.append(FilesBrought(text=text, node=agent.node))
        if said.aside:
            shown = ", ".join(said.aside[:3]) + (", ..." if len(said.aside) > 3 else "")
            text = f"{agent.node}: set aside in {said.directory}, since other files hold: {shown}"
            self._journal.append(FilesShared(text=text, node=agent.node))
        self._go_on()

    def left(self, agent: ConnectedAgent) -> None:
        """The connection of an agent has closed: what it was asked, it does not answer."""
        if self._inquiry is not None and agent.node in self._inquiry.asked:
            self._inquiry = None

    def _origin(self, current: _Round, node: str) -> str:
        if current.plan is None:
            return ""
        files = {file.sha256 for version in current.plan.to_bring[node] for file in version.files}
        peers = {
            each for sha256 in files for each in current.plan.sources.get(sha256, [])[:1] if each != node
        }
        return f" from {', '.join(sorted(peers))}" if peers else ""

    def _tell(self, decision: SetDecision) -> None:
        """What a person should know of a decision."""
        where = decision.version.path or "the working directory"
        for each in decision.conflicts:
            if each.path not in self._told:
                self._told.add(each.path)
                whose = f"that of {each.winner} holds" if each.winner else "that of the lowest rank holds"
                text = f"{each.path} has other contents on {', '.join(each.others)}: {whose}"
                self._journal.append(FilesShared(text=f"{text}; `per_node` keeps a file to its node"))
        if decision.unfinished:
            nodes = ", ".join(decision.unfinished)
            text = f"{where} was being written on {nodes} when its writers ended: what was whole before holds"
            self._journal.append(FilesShared(text=text))
        if decision.missing:
            text = f"{', '.join(decision.missing[:3])} of {where} went with the node that had written it"
            if decision.version.files and not decision.version.lost:
                text = f"the newest {text}: what was whole before holds"
            self._journal.append(Warned(text=text))


def _bytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
