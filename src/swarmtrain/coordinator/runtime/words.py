"""What agents say of a run, one method a word, and what it changes. Read from their channels by agents.py.

Nothing is decided here: every word that may matter ends in `Run.settle`.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.core.root_cause import worker_failure
from swarmtrain.coordinator.runtime.peers import Peer, RankState
from swarmtrain.coordinator.runtime.run import Run
from swarmtrain.protocol import events
from swarmtrain.protocol.failure import Failure
from swarmtrain.protocol.from_agent import (
    Drained,
    Idle,
    NoteReport,
    PulseReport,
    StacksReport,
    TroubleReport,
    WorkerReport,
)
from swarmtrain.protocol.remarks import NodeLeaving, Warned
from swarmtrain.protocol.to_agent import RunEnded, StopWorkers
from swarmtrain.wire.plural import counted

# Seconds of silence after which Swarm takes a node for lost, so that its task is replaced on its return; and in which
# that happens: until then an agent that is back is not taken into the group.
REPLACED, SETTLES = 12.0, 8.0


class Words:
    """The agents' side of one run."""

    def __init__(self, run: Run) -> None:
        self._run, self._now = run, run.journal.clock.monotonic

    def join(self, peer: Peer) -> Peer:
        """A new connection of an agent; returns the peer it belongs to. Nothing is decided before `tell`."""
        run = self._run
        peer.node = run.roll.name_of(peer)
        known = run.roll.peers.get(peer.node)
        if known is not None and known.incarnation == peer.incarnation:
            self._rejoin(known, peer)
            return known
        if known is not None and self._is_needed(known):
            run.current.lose(known, "its agent was started anew")
        run.roll.enter(peer)
        text = f"{peer.node} joined: {peer.address} on {peer.interface} ({peer.why}); {counted(peer.workers, 'worker')}"
        run.journal.append(peer.joins(text + self._prospect(peer)))
        return peer

    def _rejoin(self, peer: Peer, said: Peer) -> None:
        """An agent that was here before has a new connection."""
        run, now = self._run, self._now()
        away = now - peer.heard
        peer.hang_up()
        peer.renew(said)
        if away >= REPLACED:
            peer.settles = now + SETTLES
        was_lost = peer.gone is not None and not self._is_needed(peer)
        peer.gone = None
        if was_lost and run.phase is not Phase.ENDED:
            held = (
                f"; it takes part in {SETTLES:.0f} s, should Swarm not replace it" if away >= REPLACED else ""
            )
            after = f" after {away:.0f} s" if away >= 0 else ""  # or this coordinator has not known it before
            text = f"{peer.node} is back{after}{held}{self._prospect(peer)}"
            run.journal.append(peer.joins(text))
        peer.missed_start = (
            run.phase is Phase.RUNNING
            and run.current.takes_part(peer.node)
            and peer.generation < run.current.generation.number
        )
        peer.idle = peer.idle and not peer.missed_start

    def tell(self, peer: Peer, states: Sequence[WorkerReport]) -> None:
        """Bring an agent that has just joined, and has its welcome, up to date.

        Args:
            states: its workers, when it comes back in the middle of a generation.
        """
        run = self._run
        if peer.generation == run.current.generation.number:
            for state in states:
                self.worker(peer, state)
        elif run.phase is Phase.RUNNING and peer.generation > run.current.generation.number:
            words = "runs a generation that the journal has lost"
            run.current.fail(Failure("node", peer.node, run.journal.clock.now(), words))
        current = run.current  # what the workers' ends have led to
        mine = current.takes_part(peer.node) and peer.generation == current.generation.number
        if run.phase is Phase.ENDED:
            peer.post(RunEnded(run.state.outcome.value if run.state.outcome is not None else ""))
        elif not peer.idle and not peer.missed_start and (not mine or run.phase is Phase.GATHERING):
            peer.post(StopWorkers(peer.generation, 0.0, "kill"))  # of an old generation
        elif run.phase is Phase.STOPPING:
            peer.post(current.stop_order())
        elif peer.missed_start:
            peer.generation = current.generation.number
            peer.post(current.generation.start(peer.node))
        peer.missed_start = False
        if mine and run.phase is Phase.RUNNING:
            peer.post(current.pause_order())
        run.settle()

    def left(self, peer: Peer) -> None:
        """The connection of an agent closed."""
        peer.hang_up()
        peer.gone = self._now()
        self._run.settle()

    def worker(self, peer: Peer, report: WorkerReport) -> None:
        """A worker of the current generation started or exited."""
        run = self._run
        worker = run.current.worker_of(peer, report.generation, report.rank)
        if worker is None or worker.over or report.state == "starting":
            return
        worker.take(report)
        if report.cold:
            run.cold_starts.hear(worker.rank, len(run.current.workers), report.cold)
        if not worker.over:
            run.current.worker_runs()
            run.bell.ring()
            return
        worker.left += peer.clock
        if (failure := self._failure_of(worker, report, peer)) is not None:
            run.current.fail(failure)
        elif worker.done and run.phase is Phase.RUNNING:
            run.current.ended(worker)
        if run.current.failures:
            run.current.look_for_early_ends()
        run.bell.ring()
        run.settle()

    def _failure_of(self, worker: RankState, report: WorkerReport, peer: Peer) -> Failure | None:
        """What the end of a worker says of its generation: nothing new, once that is over or stopped as planned."""
        phase, end = self._run.phase, report.end
        if phase is Phase.RUNNING and report.killed and not worker.paused and not worker.done:
            when = report.time + peer.clock
            words = "stopped by its own agent, which was cut off or told to leave"
            return Failure("node", peer.node, when, words, rank=worker.rank)
        stopped_for_another = phase is Phase.STOPPING and self._run.current.failures
        if phase is not Phase.RUNNING and not stopped_for_another:
            return None
        if end is None or worker.done or (report.killed and end.error is None):
            return None
        return worker_failure(report, end, peer.node, worker.exit, peer.clock)

    def idle(self, peer: Peer, said: Idle) -> None:
        """No worker of a generation is left on a node."""
        if self._concerns(peer, said.generation):
            run = self._run
            if run.phase is Phase.RUNNING and said.generation == run.current.generation.number:
                self._miss_workers(peer)
            peer.idle, peer.port = True, said.port
            run.settle()

    def _miss_workers(self, peer: Peer) -> None:
        """An idle agent has said before how each of its workers ended; of one that it has not, it never will."""
        workers = self._run.current.workers.values()
        if any(not each.over and self._run.roll.peers.get(each.node) is peer for each in workers):
            self._run.current.lose(peer, "its agent has ended them unheard, or never started them")

    def drained(self, peer: Peer, said: Drained) -> None:
        """No worker is left on a node, and everything that was ever written there is here."""
        if self._concerns(peer, said.generation):
            peer.drained = True
            self._run.settle()

    def beat(self, peer: Peer, pulses: Sequence[PulseReport]) -> None:
        """The pulses of an agent's workers."""
        current = self._run.current
        now = self._now()
        moved = False
        for pulse in pulses:
            if current.worker_of(peer, pulse.generation, pulse.rank) is not None:
                moved |= current.vitals.take(pulse, now)
        if moved:
            current.moved(now)
        self._run.look_for_steps()

    def leaving(self, peer: Peer) -> None:
        """An agent is told to go: by Swarm, by `docker service scale`, by a drained node."""
        run = self._run
        if run.phase is not Phase.ENDED and not peer.leaving:
            run.journal.append(NodeLeaving(text=f"{peer.node} is told to leave", node=peer.node))
            peer.leaving = True
            run.settle()

    def warm(self, peer: Peer) -> None:
        """An agent can start workers at once."""
        peer.warm = True
        self._run.settle()

    def stacks(self, peer: Peer, answer: StacksReport) -> None:
        """What the workers of a node are doing, as was asked."""
        current = self._run.current
        if answer.generation == current.generation.number:
            current.stall.hear(answer.ranks)

    def trouble(self, peer: Peer, said: TroubleReport) -> None:
        """An agent cannot do its part at all. A run that has begun goes on without it, where that will do."""
        run, number = self._run, self._run.current.generation.number
        begun = number > 1 or (number and run.phase is not Phase.RUNNING)
        asked = run.phase is Phase.RUNNING and peer.generation == number
        failure = Failure("node" if begun else "start", peer.node, run.journal.clock.now(), said.text)
        if number:
            peer.leaving = True
        if not number or (asked and run.current.takes_part(peer.node)):
            run.current.fail(failure)
        else:
            run.journal.append(Warned(text=failure.sentence(), node=peer.node))
        run.settle()

    def note(self, peer: Peer, said: NoteReport) -> None:
        """Something an agent chose or saw, for the journal."""
        self._run.journal.append(events.remark(said.kind, f"{peer.node}: {said.text}", node=peer.node))

    def _prospect(self, peer: Peer) -> str:
        """What becomes of an agent that comes while others train, where that is not what people expect."""
        run, current = self._run, self._run.current
        if run.phase is not Phase.RUNNING or current.takes_part(peer.node) or not current.vitals.beats:
            return ""
        if len(current.generation.parts) >= run.policy.nodes_max:
            return "; it is kept as a spare"
        if run.state.wanted is not None and len(current.generation.parts) >= run.state.wanted:
            return f"; it is kept as a spare, until `swarmtrain resize` asks for more than {run.state.wanted}"
        if current.vitals.advance().cooperative:
            return ""
        return "; it takes part when the run starts again for another reason, as this script cannot save and pause"

    def _concerns(self, peer: Peer, generation: int) -> bool:
        """Whether what an agent says of a generation's end is of use: not while it was told to begin a newer one."""
        return generation >= peer.generation

    def _is_needed(self, peer: Peer) -> bool:
        run = self._run
        running = run.phase in (Phase.RUNNING, Phase.STOPPING)
        return running and run.current.takes_part(peer.node) and not peer.idle
