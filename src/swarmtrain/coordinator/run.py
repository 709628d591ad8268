"""One run: its members, its generations and its end. The server feeds it; decisions are membership.decide's."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmtrain.coordinator.cause import Failure, describe_exit, root_cause, worker_failure
from swarmtrain.coordinator.generation import Generation
from swarmtrain.coordinator.journal import Journal
from swarmtrain.coordinator.membership import (
    End,
    Form,
    Formation,
    Lose,
    Outcome,
    Phase,
    Policy,
    Stop,
    View,
    Wait,
    decide,
)
from swarmtrain.coordinator.output import Filter, OutputStore, tail
from swarmtrain.coordinator.peers import Bell, Peer, Worker
from swarmtrain.coordinator.progress import Progress
from swarmtrain.wire.frames import Message
from swarmtrain.wire.storage import Storage
from swarmtrain.wire.task import Task, Ticket

SILENCE = 15.0  # seconds without a word after which a connection is given up
FAILED_GRACE = 3.0  # seconds between TERM and KILL for the workers of a generation that failed
SETTLE = 10.0  # seconds on top of the grace in which agents report their workers' end
RECOVERY = 30.0  # seconds in which agents find a restarted coordinator again


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


class Run:
    """The state of a run, rebuilt from its journal when the coordinator starts again."""

    def __init__(self, task: Task, ticket: Ticket, place: Place, *, archive: bool = False) -> None:
        self.task, self.ticket, self.place = task, ticket, place
        self.policy = Policy(task.nodes_min, task.nodes_max, task.node_names, place.node)
        self.bell = Bell()
        self.journal = Journal(place.path / "journal.jsonl", lambda event: self.bell.ring())
        self.output = OutputStore(place.path / "output.jsonl")
        self.progress = Progress(place.path / "metrics.jsonl")
        self.peers: dict[str, Peer] = {}
        self.workers: dict[int, Worker] = {}
        self.failures: list[Failure] = []
        self.causes: list[Failure] = []
        self.phase = Phase.GATHERING
        self.outcome: Outcome | None = None
        self.reason = ""
        self.generation = Generation()
        self.stop_asked = False
        self.stopping_until = 0.0
        self.deadline = time.monotonic() + task.join_deadline
        self._alarm: asyncio.TimerHandle | None = None
        self._began = False
        if self.journal.events:
            self._recover(archive)
        else:
            nodes = ", ".join(task.node_names) or _count(task.nodes_min, task.nodes_max)
            self.journal.append(
                "submitted", f"{ticket.run} submitted: {task.target} on {nodes}", run=ticket.run
            )

    # ---- what agents say -------------------------------------------------------------------------------------

    def join(self, peer: Peer, states: list[Message], generation: int) -> Peer:
        """A new connection of an agent; returns the peer it belongs to.

        Args:
            states: the agent's workers, when it comes back in the middle of a generation.
            generation: the one they belong to.
        """
        known = self.peers.get(peer.node)
        if known is not None and known.node_id != peer.node_id:
            peer.node = next(f"{peer.node}-{n}" for n in range(2, 99) if f"{peer.node}-{n}" not in self.peers)
            known = None
        if known is not None and known.incarnation == peer.incarnation:
            if known.channel is not None:
                known.channel.abort()
            known.channel, known.gone, known.heard = peer.channel, None, peer.heard
            known.idle, known.port = peer.idle, peer.port
            peer = known
            peer.missed_start = self._takes_part(peer.node) and generation < self.generation.number
            peer.idle = peer.idle and not peer.missed_start
        else:
            if known is not None and self._takes_part(known.node) and self.phase is not Phase.GATHERING:
                self._lose(known, "its agent was started anew")
            self.peers[peer.node] = peer
            workers = "1 worker" if peer.workers == 1 else f"{peer.workers} workers"
            self.journal.append(
                "joined",
                f"{peer.node} joined: {peer.address} on {peer.interface} ({peer.why}); {workers}",
                node=peer.node,
                node_id=peer.node_id,
                address=peer.address,
                interface=peer.interface,
            )
        if generation == self.generation.number:
            for state in states:
                self.worker(peer, state)
        return peer

    def left(self, peer: Peer) -> None:
        """The connection of an agent closed."""
        peer.channel = None
        peer.gone = time.monotonic()
        for queue in peer.replies.values():
            queue.put_nowait({"error": f"the agent on {peer.node} went away", "exit": 3})
        self.settle()

    def worker(self, peer: Peer, state: Message) -> None:
        """A worker of the current generation started or exited."""
        rank = state["rank"]
        worker = self.workers.get(rank)
        if (
            state["state"] == "starting"
            or state["g"] != self.generation.number
            or worker is None
            or worker.state in ("exited", "killed")
        ):
            return
        worker.pid = state.get("pid")
        worker.state = state["state"]
        if worker.state == "running":
            if all(each.state == "running" for each in self.workers.values()) and not self._began:
                self._began = True
                self.journal.append("started", f"all {len(self.workers)} workers started")
            self.bell.ring()
            return
        worker.code = state.get("code")
        worker.exit = describe_exit(worker.code, state.get("signal"))
        if state.get("killed"):
            worker.state = "killed"
        elif worker.code != 0:
            self._fail(worker_failure(state, worker.rank, peer.node, worker.exit, peer.clock))
        self.bell.ring()
        self.settle()

    def idle(self, peer: Peer, generation: int, port: int) -> None:
        """No worker of a generation is left on a node, and its output is all here."""
        if generation == self.generation.number:
            peer.idle, peer.port = True, port
            self.settle()

    def trouble(self, peer: Peer, summary: str) -> None:
        """An agent cannot do its part at all."""
        self._fail(Failure("start", peer.node, time.time(), summary))
        self.settle()

    def note(self, peer: Peer, kind: str, text: str) -> None:
        """Something an agent chose or saw, for the journal."""
        self.journal.append(kind, f"{peer.node}: {text}", node=peer.node)

    # ---- what people say -------------------------------------------------------------------------------------

    def refuse(self, reason: str) -> None:
        """The launcher knows why this run cannot start; the run fails for that reason."""
        if self.phase is not Phase.ENDED:
            self._fail(Failure("placement", "", time.time(), reason))
            self.settle()

    def stop(self) -> None:
        """A person wants the run to stop."""
        if self.phase is not Phase.ENDED and not self.stop_asked:
            self.journal.append("stop", "asked to stop")
            self.stop_asked = True
            self.settle()

    # ---- decisions -------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Ask for decisions, and carry them out, until there is nothing to do now."""
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
                        self._lose(self.peers[node], "its connection closed and it did not come back")
                case Stop():
                    self._stop()
                case End(outcome, reason):
                    self._end(outcome, reason)

    def tell(self, peer: Peer) -> None:
        """Bring an agent that has just joined up to date."""
        if self.phase is Phase.ENDED:
            peer.post({"end": {"outcome": self.outcome}})
        elif self.phase is Phase.STOPPING:
            peer.post({"stop": {"g": self.generation.number, "grace": FAILED_GRACE}})
            peer.idle = peer.idle or peer.missed_start
        elif peer.missed_start:
            peer.post({"start": self.generation.start(peer.node)})
        peer.missed_start = False
        self.settle()

    def _view(self) -> View:
        return View(
            phase=self.phase,
            members=tuple(peer.member() for peer in self.peers.values()),
            deadline=self.deadline,
            stop_asked=self.stop_asked,
            failed=bool(self.failures),
            finished=bool(self.workers) and all(worker.code == 0 for worker in self.workers.values()),
            taking_part=frozenset(worker.node for worker in self.workers.values()),
            stopping_until=self.stopping_until,
        )

    def _form(self, formation: Formation) -> None:
        generation = Generation.of(self.generation.number + 1, formation, self.peers)
        wanted = {node: self.peers[node].backend for node in generation.parts}
        if len(set(wanted.values())) > 1:
            without = ", ".join(node for node, backend in wanted.items() if backend == "gloo")
            self.journal.append("choice", f"backend gloo: no GPU for every worker on {without}")
        self.journal.append("generation", generation.sentence(), **generation.dump())
        self.generation, self.workers = generation, generation.workers()
        self.phase, self._began = Phase.RUNNING, False
        for node in generation.parts:
            self.peers[node].idle = False
            self.peers[node].post({"start": generation.start(node)})

    def _stop(self) -> None:
        grace = FAILED_GRACE if self.failures else self.task.stop_grace
        self.phase = Phase.STOPPING
        self.stopping_until = time.monotonic() + grace + SETTLE
        why = "a rank failed" if self.failures else "stopped by a person"
        self.journal.append("stopping", f"stopping generation {self.generation.number}: {why}")
        for peer in self.peers.values():
            peer.post({"stop": {"g": self.generation.number, "grace": grace}})

    def _end(self, outcome: Outcome, reason: str) -> None:
        fields: dict[str, Any] = {}
        if self.failures:
            for peer in [peer for peer in self.peers.values() if self._takes_part(peer.node)]:
                if (
                    peer.gone is not None and not peer.idle
                ):  # the others fell because of it, and were heard first
                    self._lose(peer, "its connection closed")
            self.causes = root_cause([self._with_log(failure) for failure in self.failures])
            cause = self.causes[0]
            reason = reason or cause.sentence()
            fields["causes"] = [failure.dump() for failure in self.causes]
        self.phase, self.outcome, self.reason = Phase.ENDED, outcome, reason
        took = time.time() - self.journal.events[0]["t"]
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
        self.failures.append(failure)
        self.journal.append("failure", failure.sentence(), failure=failure.dump())

    def _lose(self, peer: Peer, why: str) -> None:
        ranks = [worker.rank for worker in self.workers.values() if worker.node == peer.node]
        for rank in ranks:
            if self.workers[rank].state in ("starting", "running"):
                self.workers[rank].state, self.workers[rank].exit = "killed", "lost with its node"
        peer.idle = True
        words = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"
        gone = time.time() - (time.monotonic() - peer.gone if peer.gone is not None else 0.0)
        self._fail(Failure("node", peer.node, gone, f"lost with {words}: {why}"))

    def _takes_part(self, node: str) -> bool:
        return any(worker.node == node for worker in self.workers.values())

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
        if formed is not None:
            self.generation = Generation.load(formed)
            self.workers = self.generation.workers("running")
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
        self.journal.append("coordinator", "the coordinator was started again and goes on")
        self.stop_asked = self.journal.last("stop") is not None
        self.failures = [Failure(**event["failure"]) for event in self.journal.all("failure")]
        if formed is not None:
            self.phase = Phase.RUNNING
            joined = {event["node"]: event for event in self.journal.all("joined")}
            self.peers = self.generation.absent_peers(joined, time.monotonic() + RECOVERY)


def _count(low: int, high: int) -> str:
    if low != high:
        return f"{low} to {high} nodes"
    return "1 node" if low == 1 else f"{low} nodes"
