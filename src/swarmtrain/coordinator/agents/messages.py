"""What agents say of a run, one method a message, and what it changes. Called by connections.py.

Nothing is decided here: every message that may matter ends in `RunController.settle`.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.core.root_cause import worker_failure
from swarmtrain.coordinator.run.controller import RunController
from swarmtrain.coordinator.run.members import ConnectedAgent
from swarmtrain.coordinator.run.ranks import RankState
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.from_agent import (
    Drained,
    Idle,
    NoteReport,
    PulseReport,
    StacksReport,
    TroubleReport,
    WorkerReport,
)
from swarmtrain.protocol.journal import events
from swarmtrain.protocol.journal.remarks import ClockApart, NodeLeaving, Warned
from swarmtrain.protocol.to_agent import RunEnded, StopWorkers
from swarmtrain.wire.plural import counted

# Seconds of silence after which Swarm takes a node for lost, so that its task is replaced on its return; and in which
# that happens: until then an agent that is back is not taken into the group.
REPLACED, SETTLES = 12.0, 8.0
CLOCKS_APART = 30.0  # seconds from which on it is worth a word: NTP holds clocks together within one


class AgentMessages:
    """The agents' side of one run."""

    def __init__(self, run: RunController) -> None:
        self._run, self._now = run, run.journal.clock.monotonic

    def join(self, agent: ConnectedAgent) -> ConnectedAgent:
        """A new connection of an agent; the connected agent that it belongs to. Nothing is decided before `tell`."""
        run = self._run
        agent.node = run.members.name_of(agent)
        known = run.members.connected.get(agent.node)
        if known is not None and known.incarnation == agent.incarnation:
            self._rejoin(known, agent)
            return known
        if known is not None and self._is_needed(known):
            run.current.mark_lost(known, "its agent was started anew")
        run.members.enter(agent)
        workers = counted(agent.workers, "worker")
        text = f"{agent.node} joined: {agent.address} on {agent.interface} ({agent.why}); {workers}"
        run.journal.append(agent.joins(text + self._prospect(agent)))
        if abs(agent.ahead) >= CLOCKS_APART:
            how = f"{abs(agent.ahead):.0f} s {'ahead of' if agent.ahead > 0 else 'behind'}"
            remark = f"{agent.node}: its clock is {how} the run's"
            run.journal.append(ClockApart(text=remark, node=agent.node, ahead=round(agent.ahead, 1)))
        return agent

    def _rejoin(self, agent: ConnectedAgent, said: ConnectedAgent) -> None:
        """An agent that was here before has a new connection."""
        run, now = self._run, self._now()
        away = now - agent.heard
        agent.hang_up()
        agent.renew(said)
        if away >= REPLACED:
            agent.settles = now + SETTLES
        was_lost = agent.gone is not None and not self._is_needed(agent)
        agent.gone = None
        if was_lost and run.phase is not Phase.ENDED:
            held = (
                f"; it takes part in {SETTLES:.0f} s, should Swarm not replace it" if away >= REPLACED else ""
            )
            after = f" after {away:.0f} s" if away >= 0 else ""  # or this coordinator has not known it before
            text = f"{agent.node} is back{after}{held}{self._prospect(agent)}"
            run.journal.append(agent.joins(text))
        agent.missed_start = (
            run.phase is Phase.RUNNING
            and run.current.takes_part(agent.node)
            and agent.generation < run.current.generation.number
        )
        agent.idle = agent.idle and not agent.missed_start

    def tell(self, agent: ConnectedAgent, states: Sequence[WorkerReport]) -> None:
        """Bring an agent that has just joined, and has its welcome, up to date.

        Args:
            states: its workers, when it comes back in the middle of a generation.
        """
        run = self._run
        if agent.generation == run.current.generation.number:
            for state in states:
                self.worker(agent, state)
        elif run.phase is Phase.RUNNING and agent.generation > run.current.generation.number:
            text = "runs a generation that the journal has lost"
            run.current.fail(Failure("node", agent.node, run.journal.clock.now(), text))
        current = run.current  # what the workers' ends have led to
        mine = current.takes_part(agent.node) and agent.generation == current.generation.number
        if run.phase is Phase.ENDED:
            agent.post(RunEnded(run.state.outcome.value if run.state.outcome is not None else ""))
        elif not agent.idle and not agent.missed_start and (not mine or run.phase is Phase.GATHERING):
            agent.post(StopWorkers(agent.generation, 0.0, "kill"))  # of an old generation
        elif run.phase is Phase.STOPPING:
            agent.post(current.stop_order())
        elif agent.missed_start:
            agent.generation = current.generation.number
            agent.post(current.start_order(agent.node))
        agent.missed_start = False
        if mine and run.phase is Phase.RUNNING:
            agent.post(current.pause_order())
        run.settle()
        self._spread_files()

    def left(self, agent: ConnectedAgent) -> None:
        """The connection of an agent closed."""
        agent.hang_up()
        agent.gone = self._now()
        self._run.sharing.left(agent)
        self._run.settle()
        self._spread_files()

    def _spread_files(self) -> None:
        """The nodes that may keep copies of files are others than before."""
        if self._run.phase is Phase.RUNNING:
            self._run.sharing.spread()

    def worker(self, agent: ConnectedAgent, report: WorkerReport) -> None:
        """A worker of the current generation started or exited."""
        run = self._run
        worker = run.current.worker_of(agent, report.generation, report.rank)
        if worker is None or worker.over or report.state == "starting":
            return
        worker.take(report)
        if report.cold:
            run.cold_starts.hear(worker.rank, len(run.current.workers), report.cold)
        if not worker.over:
            run.current.worker_runs()
            run.notifier.ring()
            return
        worker.left += agent.clock
        if (failure := self._failure_of(worker, report, agent)) is not None:
            run.current.fail(failure)
        elif worker.done and run.phase is Phase.RUNNING:
            run.current.ended(worker)
        if run.current.failures:
            run.current.look_for_early_ends()
        run.notifier.ring()
        run.settle()

    def _failure_of(self, worker: RankState, report: WorkerReport, agent: ConnectedAgent) -> Failure | None:
        """What the end of a worker says of its generation: nothing new, once that is over or stopped as planned."""
        phase, end = self._run.phase, report.end
        if phase is Phase.RUNNING and report.killed and not worker.paused and not worker.done:
            when = report.time + agent.clock
            text = "stopped by its own agent, which was cut off or told to leave"
            return Failure("node", agent.node, when, text, rank=worker.rank)
        stopped_for_another = phase is Phase.STOPPING and self._run.current.failures
        if phase is not Phase.RUNNING and not stopped_for_another:
            return None
        if end is None or worker.done or (report.killed and end.error is None):
            return None
        return worker_failure(report, end, agent.node, worker.exit, agent.clock)

    def idle(self, agent: ConnectedAgent, said: Idle) -> None:
        """No worker of a generation is left on a node."""
        if self._concerns(agent, said.generation):
            run = self._run
            if run.phase is Phase.RUNNING and said.generation == run.current.generation.number:
                self._miss_workers(agent)
            agent.idle, agent.port = True, said.port
            run.settle()

    def _miss_workers(self, agent: ConnectedAgent) -> None:
        """An idle agent has said before how each of its workers ended; of one that it has not, it never will."""
        workers = self._run.current.workers.values()
        if any(not each.over and self._run.members.connected.get(each.node) is agent for each in workers):
            self._run.current.mark_lost(agent, "its agent has ended them unheard, or never started them")

    def drained(self, agent: ConnectedAgent, said: Drained) -> None:
        """No worker is left on a node, and everything that was ever written there is here."""
        if self._concerns(agent, said.generation):
            agent.drained = True
            self._run.settle()

    def beat(self, agent: ConnectedAgent, pulses: Sequence[PulseReport]) -> None:
        """The pulses of an agent's workers."""
        current = self._run.current
        now = self._now()
        moved = False
        for pulse in pulses:
            if current.worker_of(agent, pulse.generation, pulse.rank) is not None:
                moved |= current.heartbeats.take(pulse, now)
        if moved:
            current.moved(now)
        self._run.incidents.look_for_steps(current)
        self._run.incidents.look_for_different_starts(current)

    def leaving(self, agent: ConnectedAgent) -> None:
        """An agent is told to go: by Swarm, by `docker service scale`, by a drained node."""
        run = self._run
        if run.phase is not Phase.ENDED and not agent.leaving:
            run.journal.append(NodeLeaving(text=f"{agent.node} is told to leave", node=agent.node))
            agent.leaving = True
            run.settle()

    def warm(self, agent: ConnectedAgent) -> None:
        """An agent can start workers at once."""
        agent.warm = True
        self._run.settle()

    def stacks(self, agent: ConnectedAgent, answer: StacksReport) -> None:
        """What the workers of a node are doing, as was asked."""
        current = self._run.current
        if answer.generation == current.generation.number:
            current.stall.hear(answer.ranks, self._run.journal.clock.monotonic())

    def trouble(self, agent: ConnectedAgent, said: TroubleReport) -> None:
        """An agent cannot do its part at all. A run that has begun goes on without it, where that will do."""
        run, number = self._run, self._run.current.generation.number
        begun = number > 1 or (number and run.phase is not Phase.RUNNING)
        asked = run.phase is Phase.RUNNING and agent.generation == number
        failure = Failure("node" if begun else "start", agent.node, run.journal.clock.now(), said.text)
        if number:
            agent.leaving = True
        if not number or (asked and run.current.takes_part(agent.node)):
            run.current.fail(failure)
        else:
            run.journal.append(Warned(text=failure.sentence(), node=agent.node))
        run.settle()

    def note(self, agent: ConnectedAgent, said: NoteReport) -> None:
        """Something an agent chose or saw, for the journal."""
        self._run.journal.append(events.remark(said.kind, f"{agent.node}: {said.text}", node=agent.node))

    def _prospect(self, agent: ConnectedAgent) -> str:
        """What becomes of an agent that comes while others train, where that is not what people expect."""
        run, current = self._run, self._run.current
        if run.phase is not Phase.RUNNING or current.takes_part(agent.node) or not current.heartbeats.beats:
            return ""
        if len(current.generation.parts) >= run.policy.nodes_max:
            return "; it is kept as a spare"
        if run.state.wanted is not None and len(current.generation.parts) >= run.state.wanted:
            return f"; it is kept as a spare, until `swarmtrain resize` asks for more than {run.state.wanted}"
        if current.heartbeats.advance().can_pause:
            return ""
        return "; it takes part when the run starts again for another reason, as this script cannot save and pause"

    def _concerns(self, agent: ConnectedAgent, generation: int) -> bool:
        """Whether what an agent says of a generation's end is of use: not while it was told to begin a newer one."""
        return generation >= agent.generation

    def _is_needed(self, agent: ConnectedAgent) -> bool:
        run = self._run
        running = run.phase in (Phase.RUNNING, Phase.STOPPING)
        return running and run.current.takes_part(agent.node) and not agent.idle
