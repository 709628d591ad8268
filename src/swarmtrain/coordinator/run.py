"""One run: its members, its generations and its end. The server feeds it; decisions are membership.decide's."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmtrain.coordinator import stall
from swarmtrain.coordinator.cause import Failure, describe_exit, is_consequence, root_cause, worker_failure
from swarmtrain.coordinator.chronicle import Chronicle, Incident, signature
from swarmtrain.coordinator.generation import Generation
from swarmtrain.coordinator.healing import EARLY_SECONDS, Attempt, Restart, left_out
from swarmtrain.coordinator.journal import Event, Journal
from swarmtrain.coordinator.membership import (
    End,
    Form,
    Formation,
    Hang,
    Look,
    Lose,
    Outcome,
    Pause,
    Phase,
    Policy,
    Regather,
    Stop,
    Unpause,
    View,
    Wait,
    decide,
)
from swarmtrain.coordinator.output import Filter, OutputStore, tail
from swarmtrain.coordinator.peers import Bell, Peer, Worker
from swarmtrain.coordinator.progress import Progress
from swarmtrain.coordinator.vitals import Vitals
from swarmtrain.wire.frames import Message
from swarmtrain.wire.storage import Storage
from swarmtrain.wire.task import Task, Ticket

SILENCE = 15.0  # seconds without a word after which a connection is given up
FAILED_GRACE = 3.0  # seconds between TERM and KILL for the workers of a generation nothing comes after
RESTART_GRACE = (
    0.15  # seconds until they are killed where one does: enough for the first failure to say its word
)
SETTLE = 10.0  # seconds on top of the grace in which agents report their workers' end
RECOVERY = 30.0  # seconds in which agents find a restarted coordinator again
RECOVERY_MOVED = 10.0  # the same where every agent that can has just handed over what it knew
PAUSE_SECONDS = 60.0  # in which workers save and leave when the group changes
PAUSE_AGAIN = 120.0  # seconds until they are asked again if they did not
_BATCH = 50  # events in one message
ASLEEP = 3.0  # seconds between two looks at the clock that say: this process itself was frozen


@dataclass(frozen=True)
class Place:
    """Where the coordinator keeps a run."""

    storage: Storage
    directory: str
    lineage: str
    node: str

    @property
    def path(self) -> Path:
        """The coordinator's own directory."""
        return self.storage.coordinator(self.directory)


def policy_of(task: Task, node: str) -> Policy:
    """What the job says about its members; ``node`` is the coordinator's own."""
    restart = Restart(task.restart, task.max_restarts, task.restart_window)
    alone = {} if task.restart else {"lease_alone": Policy.lease}
    return Policy(
        task.nodes_min,
        task.nodes_max,
        task.node_names,
        node,
        node_timeout=task.node_timeout,
        hang=task.hang_timeout or None,
        hang_watched=task.hang_timeout != 0.0,
        restart=restart,
        **alone,
    )


class Run:
    """The state of a run, rebuilt from its journal when the coordinator starts again."""

    def __init__(
        self, task: Task, ticket: Ticket, place: Place, *, archive: bool = False, moved: int = 0
    ) -> None:
        self.task, self.ticket, self.place, self.moved = task, ticket, place, moved
        self.policy = policy_of(task, place.node)
        self.bell = Bell()
        self._loading = True  # the files of a coordinator before this one are being read
        self.journal = Journal(place.path / "journal.jsonl", lambda event: self._published())
        self.output = OutputStore(place.path / "output.jsonl")
        self.progress = Progress(place.path / "metrics.jsonl", self._trouble_with_snapshots)
        self.chronicle = Chronicle(self.journal)
        self.peers: dict[str, Peer] = {}
        self.workers: dict[int, Worker] = {}
        self.vitals = Vitals()
        self.failures: list[Failure] = []
        self.causes: list[Failure] = []
        self.phase = Phase.GATHERING
        self.outcome: Outcome | None = None
        self.reason = ""
        self.generation = Generation()
        self.formed = 0.0  # monotonic time of the current generation's start
        self.stop_asked = False
        self.wanted: int | None = None  # nodes, if a person has said so
        self.deadline = time.monotonic() + task.join_deadline
        self._order: Message = {}  # what agents were last told about stopping
        self._stopping_until = self._not_before = self._no_pause_before = 0.0
        self._pausing: tuple[float, str] | None = None  # by when the workers should have paused, and why
        # What a coordinator before this one knew of the current generation: where it began, and its last step.
        self._before: tuple[int | None, int | None] = (None, None)
        self._failed_at = 0.0  # monotonic time of the current generation's first failure
        self._stall = stall.Stall()
        self._slow: set[int] = set()  # ranks of the current generation that were named as stragglers
        self._alarm: asyncio.TimerHandle | None = None
        self._looked_at_clock = time.monotonic()
        self._began = False
        self._names: dict[tuple[str, str], str] = {}  # what agents are called, by their id and own name
        self._replaced: set[str] = set()  # incarnations in whose place another agent has joined
        self._loading = False
        if self.journal.events:
            self._recover(archive)
        else:
            nodes = ", ".join(task.node_names) or _count(task.nodes_min, task.nodes_max)
            origin = f", going on from {ticket.resume}" if ticket.resume else ""
            text = f"{ticket.run} submitted: {task.target} on {nodes}{origin}"
            self.journal.append("submitted", text, run=ticket.run, resume=ticket.resume)

    def _published(self) -> None:
        """Something is in the journal: everybody who follows it learns of it, and every agent keeps a copy."""
        self.bell.ring()
        for peer in self.peers.values():
            self.share(peer)

    def share(self, peer: Peer) -> None:
        """Bring an agent's copy of the journal up to date."""
        while peer.channel is not None and peer.copied < len(self.journal.events):
            batch = self.journal.events[peer.copied : peer.copied + _BATCH]
            peer.copied += len(batch)
            peer.post({"journal": batch})

    # ---- what agents say -------------------------------------------------------------------------------------

    def join(self, peer: Peer) -> Peer:
        """A new connection of an agent; returns the peer it belongs to. Nothing is decided before `tell`."""
        peer.node = self._name_of(peer)
        known = self.peers.get(peer.node)
        if known is not None and known.incarnation == peer.incarnation:
            if known.channel is not None:
                known.channel.abort()
            known.renew(peer)
            was_lost = known.gone is not None and not self._is_needed(known)
            known.gone = None
            peer = known
            if was_lost and self.phase is not Phase.ENDED:
                self.journal.append("joined", f"{peer.node} is back{self._prospect(peer)}", **_identity(peer))
            peer.missed_start = (
                self.phase is Phase.RUNNING
                and self._takes_part(peer.node)
                and peer.generation < self.generation.number
            )
            peer.idle = peer.idle and not peer.missed_start
            peer.drained = peer.drained and not peer.missed_start
        else:
            if known is not None and self._is_needed(known):
                self._lose(known, "its agent was started anew")
            if known is not None:
                self._replaced.add(known.incarnation)
                if known.channel is not None:
                    known.channel.abort()
                    known.channel = None
            self.peers[peer.node] = peer
            workers = "1 worker" if peer.workers == 1 else f"{peer.workers} workers"
            self.journal.append(
                "joined",
                f"{peer.node} joined: {peer.address} on {peer.interface} ({peer.why}); {workers}"
                f"{self._prospect(peer)}",
                **_identity(peer),
            )
        return peer

    def replaced(self, peer: Peer) -> bool:
        """Whether another agent has joined in this one's place: two of them would replace each other for ever."""
        return peer.incarnation in self._replaced

    def left(self, peer: Peer) -> None:
        """The connection of an agent closed."""
        peer.channel = None
        peer.gone = time.monotonic()
        for queue in peer.replies.values():
            queue.put_nowait({"error": f"the agent on {peer.node} went away", "exit": 3})
        self.settle()

    def worker(self, peer: Peer, state: Message) -> None:
        """A worker of the current generation started or exited."""
        worker = self.workers.get(state["rank"])
        if (
            state["state"] == "starting"
            or state["g"] != self.generation.number
            or worker is None
            or worker.state in ("exited", "killed")
            or self.peers.get(worker.node) is not peer
        ):
            return
        worker.pid = state.get("pid")
        worker.state = state["state"]
        if worker.state == "running":
            if all(each.state == "running" for each in self.workers.values()) and not self._began:
                self._began = True
                count = "the worker has" if len(self.workers) == 1 else f"all {len(self.workers)} workers"
                self.journal.append("started", f"{count} started")
            self.bell.ring()
            return
        worker.code = state.get("code")
        worker.paused = bool(state.get("paused"))
        worker.exit = describe_exit(worker.code, state.get("signal"))
        if state.get("killed"):
            worker.state = "killed"
        if (failure := self._failure_of(worker, state, peer)) is not None:
            self._fail(failure)
        self.bell.ring()
        self.settle()

    def _failure_of(self, worker: Worker, state: Message, peer: Peer) -> Failure | None:
        """What the end of a worker says of its generation: nothing new, once that is over or stopped as planned."""
        if self.phase is Phase.RUNNING and state.get("killed") and not worker.paused:
            when = float(state["t"]) + peer.clock
            words = "stopped by its own agent, which was cut off or told to leave"
            return Failure("node", peer.node, when, words, rank=worker.rank)
        if self.phase is not Phase.RUNNING and not (self.phase is Phase.STOPPING and self.failures):
            return None
        if worker.code == 0 or (state.get("killed") and not state.get("error")):
            return None
        return worker_failure(state, worker.rank, peer.node, worker.exit, peer.clock)

    def idle(self, peer: Peer, generation: int, port: int) -> None:
        """No worker of a generation is left on a node."""
        if generation == self.generation.number or not self._takes_part(peer.node):
            peer.idle, peer.port = True, port
            self.settle()

    def drained(self, peer: Peer, generation: int) -> None:
        """Everything that a generation's workers wrote on a node is here."""
        if generation == self.generation.number or not self._takes_part(peer.node):
            peer.drained = True
            self.settle()

    def beat(self, peer: Peer, pulses: list[list[Any]]) -> None:
        """The pulses of an agent's workers: generation, rank, and what `Vitals.take` reads."""
        now = time.monotonic()
        moved = False
        for generation, rank, *pulse in pulses:
            worker = self.workers.get(rank)
            if generation != self.generation.number or worker is None:
                continue
            if self.peers.get(worker.node) is peer:
                moved |= self.vitals.take(rank, pulse, now)
        if moved:
            self._stall.over()
            self._watch_stragglers(now)
        if self.chronicle.open is not None and self.phase is Phase.RUNNING:
            self._look_for_steps()

    def _watch_stragglers(self, now: float) -> None:
        """Say once in a generation which rank slows the others down; nothing is done about it."""
        found = self.vitals.straggler(now)
        if found is not None and found.rank not in self._slow:
            self._slow.add(found.rank)
            node = self.workers[found.rank].node
            self.journal.append("straggler", f"{node}: {found.reason}", rank=found.rank, node=node)

    def leaving(self, peer: Peer) -> None:
        """An agent is told to go: by Swarm, by `docker service scale`, by a drained node."""
        if self.phase is not Phase.ENDED and not peer.leaving:
            self.journal.append("leaving", f"{peer.node} is told to leave", node=peer.node)
            peer.leaving = True
            self.settle()

    def warm(self, peer: Peer) -> None:
        """An agent can start workers at once."""
        peer.warm = True
        self.settle()

    def stacks(self, peer: Peer, answer: Message) -> None:
        """What the workers of a node are doing, as was asked."""
        if answer["g"] == self.generation.number:
            self._stall.hear(answer["ranks"])

    def trouble(self, peer: Peer, summary: str) -> None:
        """An agent cannot do its part at all. A run that has begun goes on without it, where that will do."""
        begun = self.generation.number > 1 or (self.generation.number and self.phase is not Phase.RUNNING)
        asked = self.phase is Phase.RUNNING and peer.generation == self.generation.number
        failure = Failure("node" if begun else "start", peer.node, time.time(), summary)
        if self.generation.number:
            peer.leaving = True
        if not self.generation.number or (asked and self._takes_part(peer.node)):
            self._fail(failure)
        else:
            self.journal.append("warning", failure.sentence(), node=peer.node)
        self.settle()

    def _trouble_with_snapshots(self, kind: str, node: str, text: str) -> None:
        if not self._loading:
            self.journal.append(kind, f"{node}: {text}", node=node)

    def note(self, peer: Peer, kind: str, text: str) -> None:
        """Something an agent chose or saw, for the journal."""
        self.journal.append(kind, f"{peer.node}: {text}", node=peer.node)

    # ---- what people say -------------------------------------------------------------------------------------

    def refuse(self, reason: str) -> bool:
        """The launcher knows why this run cannot start: it fails for that reason, unless it has begun already."""
        if self.phase is Phase.ENDED or self.generation.number:
            return False
        self._fail(Failure("placement", "", time.time(), reason))
        self.settle()
        return True

    def stop(self) -> None:
        """A person wants the run to stop."""
        if self.phase is not Phase.ENDED and not self.stop_asked:
            self.journal.append("stop", "asked to stop")
            self.stop_asked = True
            self.settle()

    def resize(self, nodes: int) -> None:
        """A person wants the run to go on with this many nodes, within what the job allows."""
        if self.phase is not Phase.ENDED and nodes != self.wanted:
            self.journal.append("resize", f"asked to go on with {_count(nodes, nodes)}", nodes=nodes)
            self.wanted = nodes
            self.settle()

    # ---- decisions -------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Time passes."""
        self.settle()

    def settle(self) -> None:
        """Ask for decisions, and carry them out, until there is nothing to do now."""
        self._notice_sleep()
        self._watch_silence()
        while True:
            decision = decide(self._view(), self.policy, time.monotonic())
            match decision:
                case Wait(until):
                    self._wake_at(until)
                    return
                case Form(formation):
                    self._form(formation)
                case Lose(nodes):
                    for node in nodes:
                        self._lose(self.peers[node], "")
                case Look():
                    self._look()
                case Hang(limit):
                    self._hang(limit)
                case Pause(why):
                    self._pause(why)
                case Unpause():
                    self._unpause()
                case Stop():
                    self._stop()
                case Regather(not_before):
                    self._regather(not_before)
                case End(outcome, reason):
                    self._end(outcome, reason)

    def tell(self, peer: Peer, states: list[Message]) -> None:
        """Bring an agent that has just joined, and has its welcome, up to date.

        Args:
            states: its workers, when it comes back in the middle of a generation.
        """
        if peer.generation == self.generation.number:
            for state in states:
                self.worker(peer, state)
        mine = self._takes_part(peer.node) and peer.generation == self.generation.number
        if self.phase is Phase.ENDED:
            peer.post({"end": {"outcome": self.outcome}})
        elif not peer.idle and not peer.missed_start and (not mine or self.phase is Phase.GATHERING):
            peer.post({"stop": {"g": peer.generation, "grace": 0.0, "how": "kill"}})  # of an old generation
        elif self.phase is Phase.STOPPING:
            peer.post({"stop": self._order})
        elif peer.missed_start:
            peer.post({"start": self.generation.start(peer.node)})
        peer.missed_start = False
        if mine and self.phase is Phase.RUNNING:
            peer.post({"pause": {"g": self.generation.number, "on": self._pausing is not None}})
        self.settle()

    def _view(self) -> View:
        over = bool(self.workers) and all(worker.code == 0 for worker in self.workers.values())
        paused = over and any(worker.paused for worker in self.workers.values())
        history = [*self.chronicle.history, *([self._attempt()] if self.failures else [])]
        return View(
            phase=self.phase,
            members=tuple(peer.member() for peer in self.peers.values()),
            deadline=self.deadline,
            generation=self.generation.number,
            stop_asked=self.stop_asked,
            failed=bool(self.failures),
            history=tuple(history),
            finished=over and not paused,
            paused=paused,
            taking_part=frozenset(self.generation.parts),
            stopping_until=self._stopping_until,
            not_before=self._not_before,
            advance=self.vitals.advance(),
            pausing_until=self._pausing[0] if self._pausing else None,
            no_pause_before=self._no_pause_before,
            looked=self._stall.looked,
            saves=self.progress.saves,
            wanted=self.wanted,
        )

    def _attempt(self) -> Attempt:
        """The current generation as a failed attempt."""
        cause = root_cause([*self.failures, *(self._loss(peer) for peer in self._missing())])[0]
        return Attempt(
            generation=self.generation.number,
            kind=cause.kind,
            signature=signature(cause),
            node=cause.node,
            rank=cause.rank,
            began=self._began_at(),
            step=self._step(),
            seconds=round(self._failed_at - self.formed, 3),
            ended=self._failed_at,
        )

    def _form(self, formation: Formation) -> None:
        generation = Generation.of(self.generation.number + 1, formation, self.peers)
        wanted = {node: self.peers[node].backend for node in generation.parts}
        if len(set(wanted.values())) > 1:
            without = ", ".join(node for node, backend in wanted.items() if backend == "gloo")
            self.journal.append("choice", f"backend gloo: no GPU for every worker on {without}")
        self.journal.append("generation", generation.sentence(), **generation.dump())
        self.generation, self.workers = generation, generation.workers()
        self.vitals = Vitals(len(self.workers))
        self.phase, self.formed, self._began = Phase.RUNNING, time.monotonic(), False
        self._pausing, self._stall, self._slow = None, stall.Stall(), set()
        self._before = (None, None)
        for node in generation.parts:
            peer = self.peers[node]
            peer.idle = peer.drained = False
            peer.generation = generation.number
            peer.post({"start": generation.start(node)})

    def _stop(self) -> None:
        restarted = bool(self.failures) and self.policy.restart.enabled and not self.stop_asked
        grace = RESTART_GRACE if restarted else FAILED_GRACE if self.failures else self.task.stop_grace
        how = "kill" if restarted else "term"
        if not self.failures and self.vitals.advance().cooperative:
            how = "save"
        why = (
            "a rank failed"
            if self.failures
            else "stopped by a person"
            if self.stop_asked
            else "a node leaves"
        )
        order = {"g": self.generation.number, "grace": grace, "how": how}
        text = f"stopping generation {self.generation.number}: {why}"
        self.journal.append("stopping", text, order=order, began=self._began_at(), step=self._step())
        self._stopping(order)
        for peer in self.peers.values():
            peer.post({"stop": self._order})

    def _stopping(self, order: Message) -> None:
        self.phase, self._order = Phase.STOPPING, order
        self._stopping_until = time.monotonic() + order["grace"] + SETTLE

    def _began_at(self) -> int | None:
        """The step that the current generation went on from; None where nobody tells."""
        known = self.vitals.resumed()
        return known if known is not None else self._before[0]

    def _step(self) -> int | None:
        """The last step of the current generation; None where nobody counts them."""
        known = self.vitals.step()
        return known if known is not None else self._before[1]

    def _pause(self, why: str) -> None:
        self._pausing = (time.monotonic() + PAUSE_SECONDS, why)
        self.journal.append("pausing", f"the group changes, since {why}: the workers save and leave")
        for peer in self.peers.values():
            peer.post({"pause": {"g": self.generation.number, "on": True}})

    def _unpause(self) -> None:
        self.journal.append("warning", f"the workers did not pause within {PAUSE_SECONDS:.0f} s: they go on")
        self._pausing = None
        self._no_pause_before = time.monotonic() + PAUSE_AGAIN
        for peer in self.peers.values():
            peer.post({"pause": {"g": self.generation.number, "on": False}})

    def _regather(self, not_before: float) -> None:
        """The current generation is over and another one is to come."""
        self._lose_the_missing()
        nodes = len(self.generation.parts)
        since = self.progress.stepped
        if (stood_since := self.vitals.stepped()) is not None:
            since = time.time() - (time.monotonic() - stood_since)
        if self.failures:
            attempt = self._attempt()
            self.chronicle.note(attempt)
            cause = root_cause(self.failures)[0]
            what, since = cause.sentence(), since or cause.time
            delay = not_before - time.monotonic()
            text = f"generation {self.generation.number} failed: {what}"
            text += f"; trying again in {delay:.0f} s" if delay > 0.5 else "; trying again"
        else:
            what = self._pausing[1] if self._pausing else "a node has left"
            since = since or time.time()
            text = f"generation {self.generation.number} has saved its work: {what}"
        incident = Incident(since, what, self._step(), nodes, planned=not self.failures)
        self.chronicle.begin(incident, text, max(0.0, not_before - time.monotonic()))
        self._not_before = not_before
        for node, why in left_out(self.chronicle.history, self.policy.restart, time.monotonic()).items():
            self.journal.append("left_out", f"{node} is left out where others will do: {why}", node=node)
        self.failures, self._pausing = [], None
        self.phase = Phase.GATHERING
        self.deadline = time.monotonic() + self.policy.node_timeout

    def _look_for_steps(self) -> None:
        """Whether the run trains again, so that the incident is over."""
        begun = self.vitals.begun()
        started = self.journal.last("started") if self._began else None
        if begun is None and started is not None and self.vitals.step() is None:
            since = started["t"] + time.monotonic() - time.time()
            begun = since if time.monotonic() - since >= EARLY_SECONDS else None  # of steps, nobody tells
        if begun is not None:
            self.chronicle.end(
                time.time() - (time.monotonic() - begun),
                len(self.generation.parts),
                self.vitals.resumed(),
                self.generation.number,
            )

    def _end(self, outcome: Outcome, reason: str) -> None:
        fields: dict[str, Any] = {}
        if self.failures:
            self._lose_the_missing()
            self.causes = root_cause([self._with_log(failure) for failure in self.failures])
            cause = self.causes[0]
            reason = f"{cause.sentence()} ({reason})" if reason else cause.sentence()
            fields["causes"] = [failure.dump() for failure in self.causes]
        self.phase, self.outcome, self.reason = Phase.ENDED, outcome, reason
        took = time.time() - (self.ticket.submitted or self.journal.events[0]["t"])
        text = f"{outcome.value} after {took:.1f} s" + (f": {reason}" if reason else "")
        workers = [worker.dump() for worker in self.workers.values()]
        self.journal.append(
            "ended",
            text,
            outcome=outcome.value,
            reason=reason,
            generation=self.generation.number,
            workers=workers,
            **fields,
        )
        for peer in self.peers.values():
            peer.post({"end": {"outcome": outcome.value}})

    def _with_log(self, failure: Failure) -> Failure:
        if failure.rank is None or failure.traceback:
            return failure
        lines = tail(self.output.path, Filter(ranks=frozenset({failure.rank})), 20)
        return Failure(**{**failure.dump(), "log": [text[-2000:] for *_, text in lines]})

    def _fail(self, failure: Failure) -> None:
        if not self.failures:
            self._failed_at = time.monotonic()
        self.failures.append(failure)
        text = failure.sentence()
        if is_consequence(failure):
            text = f"rank {failure.rank} on {failure.node} lost touch with another rank"
        self.journal.append("failure", text, failure=failure.dump())

    def _lose(self, peer: Peer, why: str) -> None:
        failure = self._loss(peer, why)
        for worker in self.workers.values():
            if worker.node == peer.node and worker.state in ("starting", "running"):
                worker.state, worker.exit = "killed", "lost with its node"
        peer.idle = peer.drained = True
        if peer.channel is not None:
            peer.channel.abort()
            peer.channel, peer.gone = None, time.monotonic()
        self._fail(failure)

    def _loss(self, peer: Peer, why: str = "") -> Failure:
        """The loss of a member, at the time of its last word."""
        silent_since = peer.gone if peer.gone is not None else peer.heard
        when = time.time() - max(0.0, time.monotonic() - silent_since)
        words = self.generation.rank_words(peer.node)
        return Failure("node", peer.node, when, f"was lost with {words}: {why or _silence(peer)}")

    def _missing(self) -> list[Peer]:
        """Members with workers left that are gone or silent: when others fail, they fell because of these."""
        now = time.monotonic()
        return [
            peer
            for peer in self.peers.values()
            if self._takes_part(peer.node) and not peer.idle
            if now >= (peer.heard + self.policy.lease if peer.gone is None else peer.gone)
        ]

    def _lose_the_missing(self) -> None:
        """The others fell because of these, and were heard first."""
        for peer in self._missing():
            self._lose(peer, "its connection closed" if peer.gone is not None else "")

    def _prospect(self, peer: Peer) -> str:
        """What becomes of an agent that comes while others train, where that is not what people expect."""
        if self.phase is not Phase.RUNNING or self._takes_part(peer.node) or not self.vitals.beats:
            return ""
        if len(self.generation.parts) >= self.policy.nodes_max:
            return "; it is kept as a spare"
        if self.vitals.advance().cooperative:
            return ""
        return "; it takes part when the run starts again for another reason, as this script cannot save and pause"

    def _name_of(self, peer: Peer) -> str:
        """Machines of one name are told apart by their ids, and each keeps the name it got."""
        key = (peer.node_id, peer.node)
        if key not in self._names:
            taken = {*self._names.values(), *self.peers}
            numbered = (f"{peer.node}-{n}" for n in range(2, 99))
            self._names[key] = next(name for name in (peer.node, *numbered) if name not in taken)
        return self._names[key]

    def _remember(self, joined: list[Event]) -> None:
        """The names that agents got, and which of them were replaced."""
        newest: dict[str, str] = {}
        for event in joined:
            node, incarnation = event["node"], event["incarnation"]
            for asked in (node, node.rpartition("-")[0]):
                self._names.setdefault((event["node_id"], asked), node)
            if newest.get(node, incarnation) != incarnation:
                self._replaced.add(newest[node])
            newest[node] = incarnation

    def _is_needed(self, peer: Peer) -> bool:
        running = self.phase in (Phase.RUNNING, Phase.STOPPING)
        return running and self._takes_part(peer.node) and not (peer.idle and peer.drained)

    def _takes_part(self, node: str) -> bool:
        return node in self.generation.parts

    # ---- standing still --------------------------------------------------------------------------------------

    def _look(self) -> None:
        """No step for a good while: ask every worker what it does, and report it a moment later."""
        self._stall.looked = True
        for node in self.generation.parts:
            self.peers[node].post({"stacks": {"g": self.generation.number}})
        generation = self.generation.number

        def report() -> None:
            if self._stall.looked and generation == self.generation.number and self.phase is Phase.RUNNING:
                quiet = time.monotonic() - (self.vitals.stepped() or 0.0)
                finding = self._stall.find(self.vitals.beats, self.workers)
                self.journal.append("stall", f"no step for {quiet:.0f} s: {finding.text}", rank=finding.rank)

        asyncio.get_running_loop().call_later(stall.PATIENCE, report)

    def _hang(self, limit: float) -> None:
        finding = self._stall.find(self.vitals.beats, self.workers)
        node = self.workers[finding.rank].node if finding.rank is not None else ""
        self._fail(
            Failure(
                "hang",
                node,
                time.time(),
                f"no step for {limit:.0f} s: {finding.text}",
                rank=finding.rank,
                traceback=finding.stack,
            )
        )

    def _notice_sleep(self) -> None:
        """A process that was frozen itself has no right to call others silent, hung or late."""
        now = time.monotonic()
        asleep = now - self._looked_at_clock - 1.0
        self._looked_at_clock = now
        if asleep <= ASLEEP:
            return
        for peer in self.peers.values():
            peer.heard += asleep
            if peer.gone is not None:
                peer.gone += asleep
        self.vitals.slept(asleep)
        self.deadline += asleep
        self._stopping_until += asleep
        if self._pausing is not None:
            self._pausing = (self._pausing[0] + asleep, self._pausing[1])

    def _watch_silence(self) -> None:
        now = time.monotonic()
        for peer in self.peers.values():
            if peer.channel is not None and now - peer.heard > SILENCE:
                peer.channel.abort()

    def _wake_at(self, until: float | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if until is not None:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(max(0.0, until - time.monotonic()) + 0.01, self.settle)

    # ---- after a restart -------------------------------------------------------------------------------------

    def _recover(self, archive: bool) -> None:
        """Rebuild the state from the journal; agents tell the rest when they join again."""
        ended = self.journal.last("ended")
        formed = self.journal.last("generation")
        self.chronicle.load()
        if formed is not None:
            self.generation = Generation.load(formed)
            self.workers = self.generation.workers("running")
            self.vitals = Vitals(len(self.workers))
            self._began = self.journal.last("started") is not None
        if ended is not None:
            self.phase, self.outcome = Phase.ENDED, Outcome(ended["outcome"])
            self.reason = ended["reason"]
            self.causes = [Failure(**cause) for cause in ended.get("causes", ())]
            self.workers = {worker["rank"]: Worker(**worker) for worker in ended["workers"]}
            return
        if archive:
            self.phase, self.outcome = Phase.ENDED, Outcome.FAILED
            self.reason = "its coordinator was killed, so nobody knows how it ended"
            return
        self._remember(self.journal.all("joined"))
        self.journal.append("coordinator", "the coordinator was started again and goes on")
        self.stop_asked = self.journal.last("stop") is not None
        resized = self.journal.last("resize")
        self.wanted = resized["nodes"] if resized else None
        if formed is not None:
            self.deadline = time.monotonic() + self.policy.node_timeout
        if formed is not None and self.chronicle.waits(formed):
            self.phase = Phase.GATHERING
            regathered = self.journal.all("regather")[-1]
            self._not_before = _moment(regathered["t"]) + regathered["wait"]
            return
        failed = [e for e in self.journal.all("failure") if formed is None or e["seq"] > formed["seq"]]
        self.failures = [Failure(**event["failure"]) for event in failed]
        if failed:
            self._failed_at = _moment(failed[0]["t"])
        for failure in self.failures:
            if failure.rank in self.workers and failure.kind != "hang":  # or its agent would say it again
                worker = self.workers[failure.rank]
                worker.state, worker.code = "exited", failure.code
                worker.exit = describe_exit(failure.code, failure.signal)
        if formed is None:
            return
        self.phase, self.formed = Phase.RUNNING, _moment(formed["t"])
        stopping = self.journal.last("stopping")
        if stopping is not None and stopping["seq"] > formed["seq"]:
            self._before = (stopping["began"], stopping["step"])
            self._stopping(stopping["order"])
        joined = {event["node"]: event for event in self.journal.all("joined")}
        self.peers = self.generation.absent_peers(
            joined, time.monotonic() + (RECOVERY_MOVED if self.moved else RECOVERY)
        )


def _identity(peer: Peer) -> dict[str, Any]:
    """What the journal keeps of an agent."""
    return {
        key: getattr(peer, key) for key in ("node", "node_id", "incarnation", "address", "interface", "gpus")
    }


def _moment(unix: float) -> float:
    """A moment of a coordinator before this one on this one's monotonic clock. It has passed, whatever clocks say."""
    return time.monotonic() - max(0.0, time.time() - unix)


def _silence(peer: Peer) -> str:
    if peer.gone is not None:
        return "its connection closed and it did not come back"
    return "it stopped answering (no power, frozen, or cut off)"


def _count(low: int, high: int) -> str:
    if low != high:
        return f"{low} to {high} nodes"
    return "1 node" if low == 1 else f"{low} nodes"
