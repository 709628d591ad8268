"""The generation that runs now: its workers, how they get on, what went wrong in it, and what its members are told.

A generation stays the current one when it is over, until the next is formed; number 0 is the time before the first.
The run (run.py) decides what becomes of it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from swarmtrain.coordinator.cause import Failure, early_end, is_consequence, is_timeout, root_cause
from swarmtrain.coordinator.chronicle import signature
from swarmtrain.coordinator.generation import Generation
from swarmtrain.coordinator.healing import EARLY_SECONDS, Attempt
from swarmtrain.coordinator.journal import Journal
from swarmtrain.coordinator.peers import Peer, Worker
from swarmtrain.coordinator.roll import Roll
from swarmtrain.coordinator.stall import Finding, Stall, outlook
from swarmtrain.coordinator.vitals import Vitals
from swarmtrain.wire.frames import Message
from swarmtrain.wire.plural import plural
from swarmtrain.wire.pulse import Activity

PAUSE_SECONDS = 60.0  # in which workers save and leave when the group changes
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
SETTLE = 10.0  # seconds on top of the grace in which agents report their workers' end


class Pausing(NamedTuple):
    """The workers were asked to save and leave."""

    until: float  # monotonic time by which they should have
    why: str


class Before(NamedTuple):
    """What a coordinator before this one knew of the current generation."""

    began: int | None = None  # the step that it went on from
    step: int | None = None  # its last


class Current:
    """The current generation while it lives.

    Args:
        roll: the agents, of which some are its members.
        state: of its workers, as far as is known.

    Attributes:
        formed: monotonic time of its start.
        began: all of its workers have been seen running.
        failures: what it does not survive, in the order in which it was heard of.
        failed_at: monotonic time of the first of them.
        order: what its members were last told about stopping.
        stopping_until: monotonic time from which members that do not report their workers' end are left out.
    """

    def __init__(self, generation: Generation, journal: Journal, roll: Roll, state: str = "starting") -> None:
        self.generation = generation
        self._journal, self._roll = journal, roll
        self.workers = generation.workers(state)
        self.vitals = Vitals(len(self.workers))
        self.stall = Stall()
        self.formed = time.monotonic()
        self.began = False
        self.failures: list[Failure] = []
        self.failed_at = 0.0
        self.pausing: Pausing | None = None
        self.order: Message = {}
        self.stopping_until = 0.0
        self.before = Before()
        self._slow: set[int] = set()  # ranks that were named as stragglers
        self._left: float | None = None

    # ---- what it is ------------------------------------------------------------------------------------------

    def takes_part(self, node: str) -> bool:
        """Whether a node is one of its members."""
        return node in self.generation.parts

    def worker_of(self, peer: Peer, generation: int, rank: int) -> Worker | None:
        """The worker that an agent speaks of, if it is one of this generation and the agent's own."""
        worker = self.workers.get(rank)
        if worker is None or generation != self.generation.number:
            return None
        return worker if self._roll.peers.get(worker.node) is peer else None

    def over(self) -> bool:
        """Whether every worker has gone with its work done."""
        return bool(self.workers) and all(worker.done for worker in self.workers.values())

    def left(self) -> float | None:
        """Since when every rank has left its last line of code, monotonic: what remains is the interpreters' own."""
        ending = {rank for rank, beat in self.vitals.beats.items() if beat.activity is Activity.ENDING}
        workers = self.workers.values()
        if self.paused() or not workers or not all(each.done or each.rank in ending for each in workers):
            self._left = None
        elif self._left is None:
            self._left = time.monotonic()
        return self._left

    def paused(self) -> bool:
        """Whether every worker has left with its work saved, as it was asked to."""
        return self.over() and any(worker.paused for worker in self.workers.values())

    def began_at(self) -> int | None:
        """The step that it went on from; None where nobody tells."""
        known = self.vitals.resumed()
        return known if known is not None else self.before.began

    def step(self) -> int | None:
        """Its last step; None where nobody counts them."""
        known = self.vitals.step()
        return known if known is not None else self.before.step

    def stepped(self) -> float | None:
        """Unix time of its last step; None before the first, or where steps are unknown."""
        moment = self.vitals.stepped()
        return None if moment is None else self._journal.clock.unix(moment)

    def trains_since(self) -> float | None:
        """Monotonic time at which every rank had made a step, or what is taken for it; None before.

        Where nobody tells of steps, it is enough that the workers have run for a while.
        """
        begun = self.vitals.begun()
        started = self._journal.last("started") if self.began else None
        if begun is None and started is not None and self.vitals.step() is None:
            since = self._journal.clock.moment(started["t"])
            return since if time.monotonic() - since >= EARLY_SECONDS else None
        return begun

    def attempt(self, lease: float, evidence: Callable[[Failure], Failure]) -> Attempt:
        """As a failed attempt.

        Args:
            lease: seconds of silence after which a member counts as lost.
            evidence: adds to a failure what its rank wrote last.
        """
        losses = [self._loss(peer) for peer in self._roll.missing(self.generation, lease)]
        cause = root_cause([evidence(each) for each in (*self.failures, *losses)])[0]
        return Attempt(
            generation=self.generation.number,
            kind=cause.kind,
            signature=signature(cause),
            node=cause.node,
            rank=cause.rank,
            began=self.began_at(),
            step=self.step(),
            seconds=round(self.failed_at - self.formed, 3),
            ended=self.failed_at,
        )

    # ---- what befalls it -------------------------------------------------------------------------------------

    def worker_runs(self) -> None:
        """One more worker runs."""
        if not self.began and all(worker.state == "running" for worker in self.workers.values()):
            self.began = True
            count = plural(len(self.workers), "the worker has", f"all {len(self.workers)} workers")
            self._journal.append("started", f"{count} started")

    def moved(self, now: float) -> None:
        """A step was made. Says once which rank slows the others down; nothing is done about it."""
        self.stall.over()
        found = self.vitals.straggler(now)
        if found is not None and found.rank not in self._slow:
            self._slow.add(found.rank)
            node = self.workers[found.rank].node
            self._journal.append("straggler", f"{node}: {found.reason}", rank=found.rank, node=node)

    def fail(self, failure: Failure) -> None:
        """Something failed that it does not survive."""
        if not self.failures:
            self.failed_at = time.monotonic()
        self.failures.append(failure)
        text = failure.sentence()
        if is_consequence(failure):
            text = f"rank {failure.rank} on {failure.node} lost touch with another rank"
        self._journal.append("failure", text, failure=failure.dump())
        self.look_for_early_ends()
        if is_timeout(failure) and self.stall.looked is not None:
            self._blame_for_the_stall()

    def _blame_for_the_stall(self) -> None:
        """The group's own timeout is raised on those that waited: the one they waited for was seen before."""
        finding = self.stall.find(self.vitals.beats, self.workers)
        if finding.rank is not None and all(each.kind != "hang" for each in self.failures):
            self.fail(self._hang(time.monotonic() - (self.vitals.stepped() or 0.0), finding))

    def look_for_early_ends(self) -> None:
        """Whether ranks break because another has ended well, which nobody saw as a failure."""
        if not any(is_consequence(each) or each.signal == signal.SIGABRT for each in self.failures):
            return
        known = {failure.rank for failure in self.failures}
        early = [w for w in self.workers.values() if w.done and not w.paused and w.rank not in known]
        for worker in sorted(early, key=lambda w: (self.vitals.step_of(w.rank) or 0, w.rank)):
            steps = self.vitals.step_of(worker.rank)
            self.fail(early_end(worker.rank, worker.node, worker.left, steps))

    def ended(self, worker: Worker) -> None:
        """A worker has gone after its last line of code, if not as an interpreter should: nothing is lost by that.

        When all have, one that did not crash but was ended, or says by its code that its ending failed, is told.
        """
        if worker.code != 0:
            text = f"rank {worker.rank} on {worker.node}: {worker.exit} after its last line of code: its work was done"
            self._journal.append("warning", text, rank=worker.rank, node=worker.node)
        if not self.over():
            return
        for each in self.workers.values():
            if each.code != 0 and each.signal not in _CRASHES:
                what = f"{each.exit} at its end, after its last line of code"
                self.fail(
                    Failure("exit", each.node, each.left, what, each.rank, code=each.code, signal=each.signal)
                )

    def lose(self, peer: Peer, why: str = "") -> None:
        """A member is lost, and with it its workers. Nothing is lost with one whose run has done its work.

        What they wrote is on its disk, and comes with its next agent: it counts as not here until then.
        """
        failure, was_over = self._loss(peer, why), self.over()
        for worker in self.workers.values():
            if worker.node == peer.node and not worker.over:
                worker.state, worker.exit = "killed", "lost with its node"
                beat = self.vitals.beats.get(worker.rank)
                worker.ended = beat is not None and beat.activity is Activity.ENDING
        peer.idle = True
        if peer.channel is not None:
            peer.hang_up()
            peer.gone = time.monotonic()
        if was_over:
            self._journal.append("warning", f"{failure.sentence()}, after its work was done", node=peer.node)
        else:
            self.fail(failure)

    def lose_the_missing(self, lease: float) -> None:
        """What failed, failed because of these; the others were only heard first."""
        for peer in self._roll.missing(self.generation, lease):
            self.lose(peer, "its connection closed" if peer.gone is not None else "")

    def hang(self, limit: float) -> None:
        """No step was made for too long."""
        self.fail(self._hang(limit, self.stall.find(self.vitals.beats, self.workers)))

    def _hang(self, seconds: float, finding: Finding) -> Failure:
        rank = finding.rank
        node = self.workers[rank].node if rank is not None else ""
        what = finding.text.replace(f"rank {rank} on {node} ", "it ", 1)  # the sentence begins with its name
        text = f"no step for {seconds:.0f} s: {what}"
        return Failure("hang", node, self._journal.clock.now(), text, rank=rank, traceback=finding.stack)

    def report_stall(self, limit: float | None, saves: bool) -> None:
        """Say whom the others wait for, as far as it is known by now, and what becomes of it.

        Args:
            limit: seconds without any sign of life after which they hang; None where a person has set how long.
            saves: the program takes snapshots.
        """
        now = time.monotonic()
        quiet = now - (self.vitals.stepped() or 0.0)
        finding = self.stall.find(self.vitals.beats, self.workers)
        then = outlook(self.vitals.alive(), now, quiet, limit, saves or self.stall.halted())
        self._journal.append("stall", f"no step for {quiet:.0f} s: {finding.text}{then}", rank=finding.rank)

    def slept(self, seconds: float) -> None:
        """This process was frozen for so long, so nothing of that time counts."""
        self.vitals.slept(seconds)
        self.stopping_until += seconds
        if self._left is not None:
            self._left += seconds
        if self.pausing is not None:
            self.pausing = self.pausing._replace(until=self.pausing.until + seconds)

    def _loss(self, peer: Peer, why: str = "") -> Failure:
        """The loss of a member, at the time of its last word."""
        silent_since = peer.gone if peer.gone is not None else peer.heard
        when = self._journal.clock.unix(min(silent_since, time.monotonic()))
        words = self.generation.rank_words(peer.node)
        if not why and peer.gone is not None:
            why = "its connection closed and it did not come back"
        elif not why:
            why = "it stopped answering (no power, frozen, or cut off)"
        return Failure("node", peer.node, when, f"was lost with {words}: {why}")

    # ---- what its members are told ---------------------------------------------------------------------------

    def start(self) -> None:
        """Every member has its part."""
        for node in self.generation.parts:
            peer = self._roll.peers[node]
            peer.idle = peer.drained = False
            peer.generation = self.generation.number
            peer.post({"start": self.generation.start(node)})

    def look(self) -> None:
        """Ask what every worker does, since no step is made."""
        self.stall.looked = time.monotonic()
        for node in self.generation.parts:
            self._roll.peers[node].post({"stacks": {"g": self.generation.number}})

    def pause(self, why: str) -> None:
        """The workers save and leave."""
        self.pausing = Pausing(time.monotonic() + PAUSE_SECONDS, why)
        self._journal.append("pausing", f"the group changes, since {why}: the workers save and leave")
        self._roll.post(self.pause_order())

    def unpause(self) -> None:
        """They did not, and go on."""
        self._journal.append("warning", f"the workers did not pause within {PAUSE_SECONDS:.0f} s: they go on")
        self.pausing = None
        self._roll.post(self.pause_order())

    def pause_order(self) -> Message:
        """Whether its workers are to save and leave, as agents are told."""
        return {"pause": {"g": self.generation.number, "on": self.pausing is not None}}

    def stop(self, grace: float, how: str, why: str) -> None:
        """The workers are to end.

        Args:
            grace: seconds until those that are left are killed.
            how: ``term``, ``save`` or ``kill``, as `agent.workers.Workers.stop` takes it.
        """
        order = {"g": self.generation.number, "grace": grace, "how": how}
        text = f"stopping generation {self.generation.number}: {why}"
        self._journal.append("stopping", text, order=order, began=self.began_at(), step=self.step())
        self.stops(order)
        self._roll.post({"stop": order})

    def stops(self, order: Message) -> None:
        """The workers were told to end."""
        self.order, self.stopping_until = order, time.monotonic() + order["grace"] + SETTLE
