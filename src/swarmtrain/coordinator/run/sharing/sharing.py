"""The files that a run's workers write, on all of its nodes: asked for, decided by core/sharing, and ordered.

Before a generation is formed, its members are asked how their files stand, and brought to the newest version. While it
trains, what has come to rest on a node becomes a version, and is copied to as many other nodes as were asked for.
Nothing of this is kept here: agents remember, and tell again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from swarmtrain.coordinator.core.sharing import catalog
from swarmtrain.coordinator.core.sharing.decisions import NodeFiles
from swarmtrain.coordinator.run.active_generation import ActiveGeneration
from swarmtrain.coordinator.run.members import ConnectedAgent, Members
from swarmtrain.coordinator.run.sharing.last_copies import LAST, LAST_STOPPED, LastCopies
from swarmtrain.coordinator.run.sharing.round import Round
from swarmtrain.coordinator.run.sharing.telling import SharingRemarks
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.protocol.journal.remarks import Warned
from swarmtrain.protocol.shared_files import AskShared, BringShared, SharedBrought, SharedReport
from swarmtrain.wire.run_spec import RunSpec

_ROUNDS = 3  # in which what could not be brought is planned anew
_BYSTANDERS = 3.0  # seconds in which nodes without a part say what they have
_LONG = 20.0  # seconds after which a wait is told of
_AT_ONCE = 200  # sets about which one inquiry is


class Sharing:
    """The shared files of one run; one instance a coordinator.

    Args:
        fence: the least one of a generation, by its number.
        current: the generation that runs now, or ran last.
        go_on: called when a generation may be formed, or the run may end, that has waited for its files.
    """

    def __init__(
        self,
        spec: RunSpec,
        fence: Callable[[int], int],
        journal: Journal,
        members: Members,
        current: Callable[[], ActiveGeneration],
        go_on: Callable[[], object],
    ) -> None:
        self._fence = fence
        self._replicas, self._journal, self._members = spec.replicas, journal, members
        self._current, self._go_on = current, go_on
        self._now = journal.clock.monotonic
        self.is_on = spec.share != "off" and spec.nodes_max > 1
        # Of the last round. What is still said to a coordinator before this one is an answer to none of this one's.
        self._number = int(journal.clock.now() * 1e3)
        self._gathering: Round | None = None
        self._tries = 0
        self._inquiry: Round | None = None
        self._last: LastCopies | None = None
        self._changed: set[str] = set()  # sets about which an inquiry is to come
        self._all = False  # an inquiry about all sets is to come
        self._remarks = SharingRemarks(journal)

    # ---- before a generation ---------------------------------------------------------------------------------

    def is_ready(self, nodes: Collection[str]) -> bool:
        """Whether these nodes have in place what they are to begin with; if not, see to that."""
        if not self.is_on:
            return True
        self._inquiry, self._changed, self._all = None, set(), False
        connected = self._members.connected
        agents = {node: connected[node] for node in nodes}
        current = self._gathering
        if current is None or not current.is_of(agents):
            self._tries = 0
            current = self._ask_all(agents)
        if current.plan is None:
            self._ask_bystanders(current)
            if silent := current.silent():
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
        self._remarks.failed(current.failed)
        current.failed = []
        return True

    def _tell_of_waiting(self, current: Round, nodes: Collection[str], why: str) -> None:
        """A long wait is told of once."""
        if not current.is_told and self._now() > current.began + _LONG:
            current.is_told = True
            self._remarks.wait(nodes, why)

    def formed(self, start: Callable[[], object]) -> None:
        """A generation is there: have it start, and who takes no part keep copies of what it begins with."""
        current, self._gathering = self._gathering, None
        if current is not None:
            self._raise_fence(current)
        start()
        self.spread()

    def _raise_fence(self, current: Round) -> None:
        """What a generation writes is to be newer than all that its nodes know, also where a run was removed.

        Numbers of runs are used again then, and a node that knew none of them would count for nothing.
        """
        generation = self._current().generation
        known = max((said.newest_fence() for said in current.said.values()), default=0)
        if known >= self._fence(generation.number):
            for node in generation.parts:
                self._members.connected[node].post(
                    BringShared(current.number, "note", [], {}, fence=known + 1)
                )

    def _ask_all(self, agents: Mapping[str, ConnectedAgent]) -> Round:
        self._gathering = self._round(agents, None)
        return self._gathering

    def _round(self, agents: Mapping[str, ConnectedAgent], paths: list[str] | None) -> Round:
        self._number += 1
        for agent in agents.values():
            agent.post(AskShared(self._number, paths))
        asked = {node: agent.channel for node, agent in agents.items()}
        return Round(self._number, asked, self._now(), paths)

    def _bystanders(self, current: Round) -> list[ConnectedAgent]:
        """Those without a part, which may hold what others have lost."""
        return [
            agent
            for node, agent in self._members.connected.items()
            if node not in current.asked and agent.channel is not None and agent.idle
        ]

    def _ask_bystanders(self, current: Round) -> None:
        """Ask those, too, some of whom may have come since the others were asked."""
        for agent in self._bystanders(current):
            if agent.channel is not current.bystanders.get(agent.node):
                current.bystanders[agent.node] = agent.channel
                agent.post(AskShared(current.number))

    def _waits_for_bystanders(self, current: Round) -> bool:
        """Whether some of those have not said what they have yet."""
        waits = any(
            agent.node not in current.said for agent in self._bystanders(current) if not agent.leaving
        )
        return waits and self._now() < current.began + _BYSTANDERS

    def _carry_out(self, current: Round) -> None:
        """Everybody has spoken: what is to be done."""
        files = self._files(current)
        current.plan = catalog.plan(files, current.asked)
        for decision in current.plan.decisions.values():
            self._remarks.decided(decision)
        for node, versions in current.plan.to_bring.items():
            if node in self._members.connected:
                current.order(self._members.connected[node], "place", versions, current.plan.sources)
            current.waiting.add(node)

    def _files(self, current: Round) -> dict[str, NodeFiles]:
        found = current.files()
        self._remarks.large(current.large)
        return found

    # ---- while it trains -------------------------------------------------------------------------------------

    def spread(self) -> None:
        """A generation has begun, or nodes have come or gone since: who takes no part is to have copies, too.

        What its members began with lies in place on them alone, and nobody would tell of it before it is changed. And
        who has it, but no part, is to know what it has.
        """
        agents, parts = self._members.connected, self._current().generation.parts
        may_keep = any(node not in parts and agent.channel is not None for node, agent in agents.items())
        if self.is_on and parts and may_keep and not (self._gathering or self._last):
            self._all = True
            self._inquire()

    def _inquire(self) -> None:
        """Whether what has come to rest on one node has done so on all; who takes no part may have a copy, too."""
        agents = {node: agent for node, agent in self._members.connected.items() if agent.channel is not None}
        if self._current().generation.parts.keys() - agents.keys():
            return  # what one of them is about to be lost with may be a part of it
        if self._inquiry is None and (self._all or self._changed):
            paths = None if self._all else sorted(self._changed)[:_AT_ONCE]
            self._all, self._changed = False, self._changed - set(paths or self._changed)
            self._inquiry = self._round(agents, paths)

    def _conclude(self, current: Round) -> None:
        """All nodes have said how these sets stand: what is finished everywhere becomes a version.

        Of what is none, the newest is ordered again where copies of it have failed.
        """
        nodes = self._files(current)
        paths = catalog.paths(nodes) if current.paths is None else current.paths
        decisions = [each for path in paths if (each := catalog.commit(path, nodes)) is not None]
        if any(each.version.files for each in decisions):
            self._current().has_saved = True
        for decision in decisions:
            self._remarks.decided(decision)
        new = {each.version.path: each.version for each in decisions}
        old = {path: version for path in paths if (version := catalog.newest(path, nodes)) is not None}
        versions, sources = old | new, catalog.holders(nodes)
        copies = {path: catalog.copies(each, nodes, self._replicas) for path, each in versions.items()}
        unaware = {path: catalog.unaware(each, nodes) for path, each in old.items()}
        for node in nodes.keys() & self._members.connected.keys():
            mine = [version for path, version in versions.items() if node in copies[path]]
            rest = [version for path, version in new.items() if node not in copies[path]]
            # Before what is newer: to know that first would be to know of this never.
            had = [version for path, version in old.items() if node in unaware[path]]
            agent = self._members.connected[node]
            if had:
                current.order(agent, "note", had, {})
            if mine:
                current.order(agent, "store", mine, sources)
            if rest:
                current.order(agent, "note", rest, {})

    # ---- at the end ------------------------------------------------------------------------------------------

    def waits_at_the_end(self, *, stopped: bool) -> float | None:
        """Until when the run is not to end, since copies are on their way; None where it may.

        Args:
            stopped: somebody has asked for it, and waits.
        """
        if self._last is None and not self._begin_last():
            return None
        last, members = self._last, self._members
        assert last is not None, "it has just begun"
        if stopped:
            last.until = min(last.until, self._now() + LAST_STOPPED)
        heard = {node for node, channel in last.round.asked.items() if self._is_heard(node, channel)}
        if last.coming is None and not last.round.silent() & heard:
            files = self._files(last.round)
            there = not self._current().generation.parts.keys() - files.keys()
            agents = {node: members.connected[node] for node in files}
            for decision in last.order(agents, files, self._replicas, all_there=there):
                self._remarks.decided(decision)
        if self._now() < last.until and not last.is_done(heard):
            return last.until
        if text := last.in_words():
            self._journal.append(Warned(text=text))
        self._last, self.is_on = None, False
        return None

    def _begin_last(self) -> bool:
        """Ask everybody who is there; whether there is anything to wait for."""
        agents = {n: agent for n, agent in self._members.connected.items() if agent.channel is not None}
        begun = self._current().generation.number
        if not (self.is_on and self._replicas and begun and len(agents) > 1):
            return False
        self._inquiry, self._gathering, self._changed, self._all = None, None, set(), False
        self._last = LastCopies(self._round(agents, None), self._now() + LAST)
        return True

    def _is_heard(self, node: str, channel: object) -> bool:
        agent = self._members.connected.get(node)
        return agent is not None and agent.channel is channel

    # ---- what agents say -------------------------------------------------------------------------------------

    def hear_report(self, agent: ConnectedAgent, said: SharedReport) -> None:
        """How an agent's files stand."""
        if not self.is_on:
            return
        if said.number == 0:
            if self._gathering is None and self._last is None:
                self._changed |= {each.path for each in said.sets}
                self._inquire()
            return
        gathering, inquiry = self._gathering, self._inquiry
        asked = gathering or (self._last.round if self._last is not None else None)
        if asked is not None and said.number == asked.number:
            if asked.hear(agent.node, said, self._journal.clock.now()):
                self._go_on()
        elif inquiry is not None and said.number == inquiry.number:
            inquiry.hear(agent.node, said, self._journal.clock.now())
            if not inquiry.silent():
                self._inquiry = None
                self._conclude(inquiry)
                self._inquire()

    def hear_brought(self, agent: ConnectedAgent, said: SharedBrought) -> None:
        """What was ordered is in place on a node, or beside its working directory."""
        current, last = self._gathering, self._last
        if last is not None and said.number == last.round.number:
            last.hear(agent.node, said)
            self._go_on()
        if current is None or said.number != current.number or agent.node not in current.waiting:
            return
        current.waiting.discard(agent.node)
        current.failed += [f"{agent.node}: {each}" for each in said.failed]
        self._remarks.brought(agent.node, said, current.plan)
        self._go_on()

    def left(self, agent: ConnectedAgent) -> None:
        """The connection of an agent has closed: it answers nothing, and the others are asked anew."""
        if self._inquiry is not None and agent.node in self._inquiry.asked:
            self._changed.update(self._inquiry.paths or ())
            self._all, self._inquiry = self._all or self._inquiry.paths is None, None
            self._inquire()
