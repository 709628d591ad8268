"""The generation that runs now: its workers, how they get on, what went wrong in it, and what its members are told.

A generation stays the current one when it is over, until the next is formed; number 0 is the time before the first.
The run (controller.py) decides what becomes of it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import NamedTuple

from swarmtrain.coordinator.core.incident_log import signature
from swarmtrain.coordinator.core.model import Stop
from swarmtrain.coordinator.core.restart_policy import EARLY_SECONDS
from swarmtrain.coordinator.core.root_cause import early_end, root_cause
from swarmtrain.coordinator.run.evidence import Evidence
from swarmtrain.coordinator.run.heartbeats import HeartbeatTracker
from swarmtrain.coordinator.run.members import ConnectedAgent, Members
from swarmtrain.coordinator.run.ranks import RankState, ranks_of
from swarmtrain.coordinator.run.stall import Stall, outlook
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.coordinator.store.output import OutputStore
from swarmtrain.diagnosis.echoes import is_consequence, is_timeout, waited
from swarmtrain.protocol.facts import Attempt, Failure, StopOrder
from swarmtrain.protocol.journal.events import GenerationFailed, PauseAsked, StopOrdered, WorkersStarted
from swarmtrain.protocol.journal.remarks import StallSeen, StragglerSeen, Warned
from swarmtrain.protocol.to_agent import AskStacks, PauseWorkers, StartWorkers, StopWorkers
from swarmtrain.wire.plural import plural
from swarmtrain.wire.pulse import Activity

PAUSE_SECONDS = 60.0  # in which workers save and leave when the group changes
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
SETTLE = 10.0  # seconds on top of the grace in which agents report their workers' end


class Pausing(NamedTuple):
    """The workers were asked to save and leave."""

    until: float  # monotonic time by which they should have
    why: str


class ActiveGeneration:
    """The current generation while it lives: what its agents tell, and timers; the rest is in the journal's state.

    Args:
        journal: in whose state it is the newest generation.
        members: the agents, of which some are its members.
        output: what all ranks wrote.

    Attributes:
        workers: by rank.
        stopping_until: monotonic time from which members that do not report their workers' end are left out.
        has_saved: shared files that its workers wrote became a version while it ran.
    """

    def __init__(self, journal: Journal, members: Members, output: OutputStore) -> None:
        self._journal, self._members, self._now = journal, members, journal.clock.monotonic
        self.generation = journal.state.generation
        self.workers = ranks_of(journal.state)
        self._evidence = Evidence(output, self.generation.number)
        self.heartbeats = HeartbeatTracker(len(self.workers))
        self.stall = Stall()
        self.pausing: Pausing | None = None
        self.stopping_until, self.has_saved = 0.0, False
        if journal.state.stopping is not None:
            self.stopping_until = self._now() + journal.state.stopping.order.grace + SETTLE
        self._slow: set[int] = set()  # ranks that were named as stragglers
        self._left: float | None = None

    # ---- what it is ------------------------------------------------------------------------------------------

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What it does not survive, in the order in which it was heard of."""
        return self._journal.state.failures

    def takes_part(self, node: str) -> bool:
        """Whether a node is one of its members."""
        return node in self.generation.parts

    def worker_of(self, agent: ConnectedAgent, generation: int, rank: int) -> RankState | None:
        """The worker that an agent speaks of, if it is one of this generation and the agent's own."""
        worker = self.workers.get(rank)
        if worker is None or generation != self.generation.number:
            return None
        return worker if self._members.connected.get(worker.node) is agent else None

    def over(self) -> bool:
        """Whether every worker has gone with its work done."""
        return bool(self.workers) and all(worker.done for worker in self.workers.values())

    def left(self) -> float | None:
        """Since when every rank has left its last line of code, monotonic: what remains is the interpreters' own."""
        ending = {rank for rank, beat in self.heartbeats.beats.items() if beat.activity is Activity.ENDING}
        workers = self.workers.values()
        if self.paused() or not workers or not all(each.done or each.rank in ending for each in workers):
            self._left = None
        elif self._left is None:
            self._left = self._now()
        return self._left

    def paused(self) -> bool:
        """Whether every worker has left with its work saved, as it was asked to."""
        return self.over() and any(worker.paused for worker in self.workers.values())

    def began_at(self) -> int | None:
        """The step that it went on from; None where nobody tells."""
        known = self.heartbeats.resumed()
        stopping = self._journal.state.stopping
        return stopping.began if known is None and stopping is not None else known

    def step(self) -> int | None:
        """Its last step; None where nobody counts them."""
        known = self.heartbeats.step()
        stopping = self._journal.state.stopping
        return stopping.step if known is None and stopping is not None else known

    def stepped(self) -> float | None:
        """Unix time of its last step; None before the first, or where steps are unknown."""
        moment = self.heartbeats.stepped()
        return None if moment is None else self._journal.clock.unix(moment)

    def trains_since(self) -> float | None:
        """Monotonic time at which every rank had made a step, or what is taken for it; None before.

        Where nobody tells of steps, it is enough that the workers have run for a while.
        """
        begun, state = self.heartbeats.begun(), self._journal.state
        if begun is None and state.began and state.started is not None and self.heartbeats.step() is None:
            since = self._journal.clock.moment(state.started)
            return since if self._now() - since >= EARLY_SECONDS else None
        return begun

    def causes(self) -> list[Failure]:
        """What it fails of, with what the ranks wrote last, the root cause first."""
        return self._causes(self.failures)

    def _causes(self, failures: Iterable[Failure]) -> list[Failure]:
        return root_cause([self._evidence.of(failure) for failure in failures])

    def attempt(self, lease: float) -> Attempt:
        """As a failed attempt.

        Args:
            lease: seconds of silence after which a member counts as lost.
        """
        losses = [self._loss(agent) for agent in self._members.missing(self.generation, lease)]
        cause = self._causes((*self.failures, *losses))[0]
        state = self._journal.state
        return Attempt(
            generation=self.generation.number,
            kind=cause.kind,
            signature=signature(cause),
            node=cause.node,
            rank=cause.rank,
            began=self.began_at(),
            step=self.step(),
            seconds=round(state.failed_at - state.formed, 3),
            ended=state.failed_at,
            saved=self.has_saved,
        )

    # ---- what befalls it -------------------------------------------------------------------------------------

    def worker_runs(self) -> None:
        """One more worker runs."""
        if not self._journal.state.began and all(each.state == "running" for each in self.workers.values()):
            count = plural(len(self.workers), "the worker has", f"all {len(self.workers)} workers")
            self._journal.append(WorkersStarted(text=f"{count} started"))

    def moved(self, now: float) -> None:
        """A step was made. Says once which rank slows the others down; nothing is done about it."""
        self.stall.over()
        found = self.heartbeats.straggler(now)
        if found is not None and found.rank not in self._slow:
            self._slow.add(found.rank)
            node = self.workers[found.rank].node
            self._journal.append(StragglerSeen(text=f"{node}: {found.reason}", rank=found.rank, node=node))

    def fail(self, failure: Failure) -> None:
        """Something failed that it does not survive."""
        self._tell_failed(failure)
        self.look_for_early_ends()
        if is_timeout(failure) and self.stall.tells_of(waited(failure) or 0.0, self._now()):
            self._blame_for_the_stall(waited(failure) or 0.0)

    def _tell_failed(self, failure: Failure) -> None:
        text = failure.sentence()
        if is_consequence(failure):
            text = f"rank {failure.rank} on {failure.node} lost touch with another rank"
        self._journal.append(GenerationFailed(text=text, failure=failure))

    def _blame_for_the_stall(self, waited: float) -> None:
        """The group's own timeout is raised on those that waited: the one they waited for was seen before."""
        finding = self.stall.find(self.heartbeats.beats, self.workers)
        if finding.rank is not None and all(each.kind != "hang" for each in self.failures):
            seconds = waited if self.heartbeats.stepped() is None else self._quiet()
            self.fail(finding.failure(seconds, self._journal.clock.now()))

    def look_for_early_ends(self) -> None:
        """Whether ranks break because another has ended well, which nobody saw as a failure."""
        if not any(is_consequence(each) or each.signal == signal.SIGABRT for each in self.failures):
            return
        known = {failure.rank for failure in self.failures}
        early = [w for w in self.workers.values() if w.done and not w.paused and w.rank not in known]
        for worker in sorted(early, key=lambda w: (self.heartbeats.step_of(w.rank) or 0, w.rank)):
            steps = self.heartbeats.step_of(worker.rank)
            self._tell_failed(early_end(worker.rank, worker.node, worker.left, steps))

    def ended(self, worker: RankState) -> None:
        """A worker has gone after its last line of code, if not as an interpreter should: nothing is lost by that.

        When all have, one that did not crash but was ended, or says by its code that its ending failed, is told.
        """
        if worker.code != 0:
            text = f"rank {worker.rank} on {worker.node}: {worker.exit} after its last line of code: its work was done"
            self._journal.append(Warned(text=text, rank=worker.rank, node=worker.node))
        if not self.over():
            return
        for each in self.workers.values():
            if each.code != 0 and each.signal not in _CRASHES:
                what = f"{each.exit} at its end, after its last line of code"
                self.fail(
                    Failure("exit", each.node, each.left, what, each.rank, code=each.code, signal=each.signal)
                )

    def mark_lost(self, agent: ConnectedAgent, why: str = "") -> None:
        """A member is lost, and with it its workers. Nothing is lost with one whose run has done its work.

        What they wrote is on its disk, and comes with its next agent: it counts as not here until then.
        """
        failure, was_over = self._loss(agent, why), self.over()
        for worker in self.workers.values():
            if worker.node == agent.node and not worker.over:
                beat = self.heartbeats.beats.get(worker.rank)
                worker.mark_lost(ended=beat is not None and beat.activity is Activity.ENDING)
        agent.idle = True
        if agent.channel is not None:
            agent.hang_up()
            agent.gone = self._now()
        if was_over:
            text = f"{failure.sentence()}, after its work was done"
            self._journal.append(Warned(text=text, node=agent.node))
        else:
            self.fail(failure)

    def mark_missing_lost(self, lease: float) -> None:
        """What failed, failed because of these; the others were only heard first."""
        for agent in self._members.missing(self.generation, lease):
            self.mark_lost(agent, "its connection closed" if agent.gone is not None else "")

    def hang(self, limit: float) -> None:
        """No step was made for too long."""
        finding = self.stall.find(self.heartbeats.beats, self.workers)
        self.fail(finding.failure(limit, self._journal.clock.now()))

    def _quiet(self) -> float:
        """Seconds since its last step."""
        return self._now() - (self.heartbeats.stepped() or 0.0)

    def report_stall(self, limit: float | None, saves: bool) -> None:
        """Say whom the others wait for, as far as it is known by now, and what becomes of it.

        Args:
            limit: seconds without any sign of life after which they hang; None where a person has set how long.
            saves: the program takes snapshots.
        """
        quiet = self._quiet()
        finding = self.stall.find(self.heartbeats.beats, self.workers)
        then = outlook(self.heartbeats.alive(), self._now(), quiet, limit, saves or self.stall.halted())
        text = f"no step for {quiet:.0f} s: {finding.text}{then}"
        self._journal.append(StallSeen(text=text, rank=finding.rank))

    def slept(self, seconds: float) -> None:
        """This process was frozen for so long, so nothing of that time counts."""
        self.heartbeats.slept(seconds)
        self.stopping_until += seconds
        if self._left is not None:
            self._left += seconds
        if self.pausing is not None:
            self.pausing = self.pausing._replace(until=self.pausing.until + seconds)

    def _loss(self, agent: ConnectedAgent, why: str = "") -> Failure:
        """The loss of a member, at the time of its last word."""
        silent_since = agent.gone if agent.gone is not None else agent.heard
        when = self._journal.clock.unix(min(silent_since, self._now()))
        ranks = self.generation.ranks_in_words(agent.node)
        if not why and agent.gone is not None:
            why = "its connection closed and it did not come back"
        elif not why:
            why = "it stopped answering (no power, frozen, or cut off)"
        return Failure("node", agent.node, when, f"was lost with {ranks}: {why}")

    # ---- what its members are told ---------------------------------------------------------------------------

    def start(self) -> None:
        """Every member has its part."""
        for node in self.generation.parts:
            agent = self._members.connected[node]
            agent.idle = agent.drained = False
            agent.generation = self.generation.number
            agent.post(self.start_order(node))

    def start_order(self, node: str) -> StartWorkers:
        """What a member is told to begin with."""
        return self.generation.start(
            node, {each.node: each.address for each in self._members.connected.values()}
        )

    def capture_stacks(self) -> None:
        """Ask what every worker does, since no step is made."""
        self.stall.captured = self._now()
        for node in self.generation.parts:
            self._members.connected[node].post(AskStacks(self.generation.number))

    def pause(self, why: str) -> None:
        """The workers save and leave."""
        self.pausing = Pausing(self._now() + PAUSE_SECONDS, why)
        text = f"the group changes, since {why}: the workers save and leave"
        self._journal.append(PauseAsked(text=text))
        self._members.post(self.pause_order())

    def unpause(self) -> None:
        """They did not, and go on."""
        text = f"the workers did not pause within {PAUSE_SECONDS:.0f} s: they go on"
        self._journal.append(Warned(text=text))
        self.pausing = None
        self._members.post(self.pause_order())

    def pause_order(self) -> PauseWorkers:
        """Whether its workers are to save and leave, as agents are told."""
        return PauseWorkers(self.generation.number, self.pausing is not None)

    def stop(self, decision: Stop) -> None:
        """The workers are to end."""
        order = StopOrder(self.generation.number, decision.grace, decision.how)
        text = f"stopping generation {self.generation.number}: {decision.why}"
        self._journal.append(StopOrdered(text=text, order=order, began=self.began_at(), step=self.step()))
        self.stopping_until = self._now() + decision.grace + SETTLE
        self._members.post(self.stop_order())

    def stop_order(self) -> StopWorkers:
        """What its members were told about stopping."""
        stopping = self._journal.state.stopping
        assert stopping is not None, "its workers were told to end"
        return StopWorkers(stopping.order.generation, stopping.order.grace, stopping.order.how)
