"""One run, and what is decided of it. Decisions are decide.decide's; here they are carried out.

What it is for good stands in its journal, and changes by events alone (core/state.py). What its agents say comes in by
agents/messages.py, what people want by clients/actions.py. Its generation is in active_generation.py, and its agents
are in members.py.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from swarmtrain.coordinator.core.decide import decide
from swarmtrain.coordinator.core.generation import Generation
from swarmtrain.coordinator.core.model import (
    CaptureStacks,
    End,
    Form,
    Formation,
    Hang,
    MarkLost,
    Pause,
    Phase,
    Policy,
    Reform,
    Stop,
    Unpause,
    View,
    Wait,
)
from swarmtrain.coordinator.core.restart_policy import left_out
from swarmtrain.coordinator.core.root_cause import in_brief
from swarmtrain.coordinator.core.standstill import auto_hang
from swarmtrain.coordinator.core.state import RunState
from swarmtrain.coordinator.run import stall
from swarmtrain.coordinator.run.active_generation import ActiveGeneration
from swarmtrain.coordinator.run.alarm import Alarm
from swarmtrain.coordinator.run.cold_starts import ColdStarts
from swarmtrain.coordinator.run.incidents import Incidents
from swarmtrain.coordinator.run.members import Members
from swarmtrain.coordinator.run.notifier import Notifier
from swarmtrain.coordinator.run.sharing.sharing import Sharing
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.coordinator.store.metrics import MetricsStore
from swarmtrain.coordinator.store.output import OutputStore
from swarmtrain.coordinator.store.run_paths import RunPaths
from swarmtrain.protocol.facts import Failure, Outcome
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import VERSION, CoordinatorStarted, Ended, Submitted
from swarmtrain.protocol.journal.remarks import Chosen, NodeLeftOut, Remark, Warned
from swarmtrain.protocol.to_agent import RunEnded
from swarmtrain.wire.clock import MACHINE, Clock
from swarmtrain.wire.disk.submission import SubmissionMark
from swarmtrain.wire.plural import counted
from swarmtrain.wire.run_spec import RunSecret, RunSpec

PAUSE_AGAIN = 120.0  # seconds until workers that did not pause are asked again
NUMBERS_LEFT = 100  # generations for a coordinator that was replaced by this one, and may live on unheard
LAST_TO_JOIN = 5.0  # seconds in which an agent joins that was started before its client was killed
RECOVERY = 30.0  # seconds in which agents find a restarted coordinator again
RECOVERY_MOVED = 10.0  # the same where every agent that can has just handed over what it knew


class RunController:
    """A run and whoever takes part in it. A coordinator that is started again goes on from the journal.

    Args:
        archive: nobody leads the run any more; it is looked at, and concluded where nobody has.
        moved: how often its coordinator has begun on another machine.
        clock: of this machine.
        submission: whether all of it was started; by default it was.

    Attributes:
        current: the generation that runs now, or ran last.
        members: its agents.
        deadline: monotonic time by which enough of them must have gathered.
    """

    def __init__(
        self,
        spec: RunSpec,
        secret: RunSecret,
        place: RunPaths,
        *,
        archive: bool = False,
        moved: int = 0,
        clock: Clock = MACHINE,
        submission: SubmissionMark | None = None,
    ) -> None:
        self.spec, self.secret, self.place = spec, secret, place
        self.archive, self.moved = archive, moved
        self.policy = Policy.of(spec, place.node)
        self.notifier = Notifier()
        self._loading = True  # the files of a coordinator before this one are being read
        self.journal = Journal(place.path / "journal.jsonl", clock, self._published, archive=archive)
        self.output = OutputStore(place.path / "output.jsonl")
        self.progress = MetricsStore(
            place.path / "metrics.jsonl",
            self.journal.clock.now,
            self._trouble_with_snapshots,
            archive=archive,
        )
        self._loading = False
        self._full = False  # the disk takes nothing more of what workers write
        self._now = self.journal.clock.monotonic
        self.members = Members(self.journal)
        self.cold_starts = ColdStarts(self.journal)
        self.incidents = Incidents(self.journal, self.progress)
        self.sharing = Sharing(
            spec, secret.fence, self.journal, self.members, lambda: self.current, self.settle
        )
        again = bool(self.journal.events)
        self.current = ActiveGeneration(self.journal, self.members, self.output)
        if self.phase in (Phase.RUNNING, Phase.STOPPING):
            self.members.expect(
                self.current.generation, self._now() + (RECOVERY_MOVED if moved else RECOVERY)
            )
        self.deadline = self._now() + spec.join_deadline
        self._submission, self._cut_off = submission or SubmissionMark(), False
        self._no_pause_before = 0.0
        self._ending: End | None = None  # which waits for copies
        self._alarm = Alarm(self._now, self.settle)
        if not again and not archive:
            self.begin()
        elif self.phase is not Phase.ENDED:
            text = "the coordinator was started again and goes on"
            self.journal.append(CoordinatorStarted(text=text, clock=self.journal.origin()))
            for damage in filter(None, (self.journal.damage, self.output.damage, self.progress.damage)):
                self.journal.append(Warned(text=damage))
            if self.current.generation.number:
                self.deadline = self._now() + self.policy.node_timeout

    @property
    def state(self) -> RunState:
        """What its journal amounts to."""
        return self.journal.state

    @property
    def phase(self) -> Phase:
        """Where it is in its life."""
        return self.state.phase

    def begin(self) -> None:
        """The first words of the journal."""
        spec, secret, low, high = self.spec, self.secret, self.spec.nodes_min, self.spec.nodes_max
        count = f"{low} to {high} nodes" if low < high else counted(low, "node")
        nodes = ", ".join(spec.node_names) or count
        origin = f", going on from {secret.resume}" if secret.resume else ""
        text = f"{secret.run} submitted: {spec.target} on {nodes}{origin}"
        clock, run, resume = self.journal.origin(), secret.run, secret.resume
        self.journal.append(Submitted(text=text, run=run, resume=resume, clock=clock, version=VERSION))

    def _published(self, event: Event) -> None:
        """Something is in the journal: everybody who follows it learns of it."""
        self.notifier.ring()
        self.members.publish()

    def _trouble_with_snapshots(self, kind: type[Remark], node: str, text: str) -> None:
        if not self._loading:
            self.journal.append(kind(text=f"{node}: {text}", node=node))

    def look_at_disk(self) -> None:
        """What workers write has come: whether the disk takes it. An end does not wait for what it does not take."""
        full = self.output.full() or self.progress.full()
        if full == self._full:
            return
        self._full = full
        if full and self.phase is not Phase.ENDED:
            text = "the coordinator's disk takes no more of what workers write"
            self.journal.append(Warned(text=f"{text}: it stays on their nodes until there is room"))
        self.settle()

    # ---- decisions -------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Time passes."""
        self.settle()

    def settle(self) -> None:
        """Ask for decisions, and carry them out, until there is nothing to do now."""
        self._notice_sleep()
        self._look_at_submission()
        self.members.drop_the_silent()
        while True:
            decision = self._ending or decide(self._view(), self.policy, self._now())
            match decision:
                case Wait(until):
                    self._alarm.set(until)
                    return
                case Form(formation):
                    if not self.sharing.is_ready([each.node for each in formation.assignments]):
                        self._alarm.set(None)
                        return
                    self._form(formation)
                case MarkLost(nodes):
                    for node in nodes:
                        self.current.mark_lost(self.members.connected[node])
                case CaptureStacks():
                    self._capture_stacks()
                case Hang(limit):
                    self.current.hang(limit)
                case Pause(why):
                    self.current.pause(why)
                case Unpause():
                    self.current.unpause()
                    self._no_pause_before = self._now() + PAUSE_AGAIN
                case Stop():
                    self.current.stop(decision)
                case Reform(not_before):
                    self._reform(not_before)
                case End(outcome, reason):
                    self._ending = decision  # whatever comes while it waits
                    if (until := self.sharing.waits_at_the_end(stopped=self.state.stop_asked)) is not None:
                        self._alarm.set(until)
                        return
                    self._ending = None
                    self.end(outcome, reason)

    def _view(self) -> View:
        current, state, moment = self.current, self.state, self.journal.clock.moment
        history = list(state.history)
        if state.failures:
            history.append(current.attempt(self.policy.lease))
        paused = current.paused()
        return View(
            phase=state.phase,
            members=tuple(self.members.connected.values()),
            deadline=self.deadline,
            generation=current.generation.number,
            stop_asked=state.stop_asked,
            cut_off=self._cut_off,
            failed=bool(state.failures),
            history=tuple(replace(each, ended=moment(each.ended)) for each in history),
            finished=current.over() and not paused,
            left=current.left(),
            halted=current.stall.halted(),
            paused=paused,
            taking_part=frozenset(current.generation.parts),
            stopping_until=current.stopping_until,
            not_before=state.not_before - self.journal.clock.epoch,
            advance=current.heartbeats.advance(),
            pausing_until=current.pausing.until if current.pausing is not None else None,
            no_pause_before=self._no_pause_before,
            captured=current.stall.captured,
            saves=self.progress.saves,
            wanted=state.wanted,
            full=self._full,
        )

    def _form(self, formation: Formation) -> None:
        connected = self.members.connected
        # A disk that was full may have kept this coordinator from knowing of generations that agents know.
        newest = max(self.current.generation.number, *(agent.generation for agent in connected.values()))
        skipped = NUMBERS_LEFT if self.state.just_moved else 0
        generation = Generation.of(newest + 1 + skipped, formation, connected)
        wanted = {node: connected[node].backend for node in generation.parts}
        if len(set(wanted.values())) > 1:
            without = ", ".join(node for node, backend in wanted.items() if backend == "gloo")
            self.journal.append(Chosen(text=f"backend gloo: no GPU for every worker on {without}"))
        self.journal.append(generation.formed())
        self.output.begin(generation.number)
        self.current = ActiveGeneration(self.journal, self.members, self.output)
        self.sharing.formed(self.current.start)

    def _capture_stacks(self) -> None:
        """No step for a good while: ask every worker what it does, and report it a moment later."""
        asked = self.current
        asked.capture_stacks()

        def report() -> None:
            if asked is self.current and asked.stall.captured is not None and self.phase is Phase.RUNNING:
                advance = asked.heartbeats.advance()
                auto = None if self.policy.hang else auto_hang(advance.usual or 0.0, advance.reports_phases)
                asked.report_stall(auto, self.progress.saves)

        asyncio.get_running_loop().call_later(stall.PATIENCE, report)

    def _reform(self, not_before: float) -> None:
        """The current generation is over and another one is to come."""
        current = self.current
        current.mark_missing_lost(self.policy.lease)
        self.incidents.generation_ended(current, self.policy.lease, max(0.0, not_before - self._now()))
        self._tell_who_is_left_out()
        current.pausing = None
        self.deadline = self._now() + self.policy.node_timeout

    def _tell_who_is_left_out(self) -> None:
        """Nodes on which failures begin again and again, where others will do."""
        suspects = left_out(self.state.history, self.policy.restart, self.journal.clock.now())
        trusted = [
            node for node, agent in self.members.connected.items() if agent.gone is None and not agent.leaving
        ]
        others_will_do = len(set(trusted) - suspects.keys()) >= self.policy.nodes_min
        for node, why in suspects.items() if others_will_do else ():
            self.journal.append(
                NodeLeftOut(text=f"{node} is left out where others will do: {why}", node=node)
            )

    def end(self, outcome: Outcome, reason: str) -> None:
        """The run is over."""
        current = self.current
        causes = list[Failure]()
        if current.failures:
            current.mark_missing_lost(self.policy.lease)
            causes = in_brief(current.causes())
            sentence = causes[0].sentence()
            reason = f"{sentence} ({reason})" if reason else sentence
        if outcome is Outcome.SUCCEEDED:
            # It has gone on from what befell it, also where no step was left, or nobody counts them.
            started = self.state.started if self.state.began else None
            self.incidents.close(current, started if started is not None else self.journal.clock.now())
        self.output.finish(before=current.generation.number + 1)
        if current.generation.number:
            self.members.tell_what_is_not_here()
        if unsaved := self.progress.unsaved():
            self.journal.append(Warned(text=unsaved))
        for worker in current.workers.values():
            worker.end_with_run()
        took = self.journal.clock.now() - (self.state.created or 0.0)
        self.journal.append(
            Ended(
                text=f"{outcome.value} after {took:.1f} s" + (f": {reason}" if reason else ""),
                outcome=outcome,
                reason=reason,
                generation=current.generation.number,
                workers=[worker.told() for worker in current.workers.values()],
                causes=causes,
            )
        )
        self.members.post(RunEnded(outcome.value))

    # ---- time ------------------------------------------------------------------------------------------------

    def _look_at_submission(self) -> None:
        """Whoever submits a run may be killed before it has started all of it: nobody waits for what never comes."""
        waits = self.phase is Phase.GATHERING and not self.current.generation.number
        if waits and not self._cut_off and self._submission.was_cut_off():
            self._cut_off = True
            self.deadline = min(self.deadline, self._now() + LAST_TO_JOIN)
            text = "the client that submitted the run went before it had started all of it"
            self.journal.append(Warned(text=text))

    def _notice_sleep(self) -> None:
        """A process that was frozen itself has no right to call others silent, hung or late."""
        if asleep := self._alarm.overslept():
            self.members.slept(asleep)
            self.current.slept(asleep)
            self.deadline += asleep
