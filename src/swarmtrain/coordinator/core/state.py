"""What a coordinator holds of a run for good: what its journal amounts to, event by event. Pure.

`RunState.apply` is the only code by which it changes. A living coordinator applies each event that it appends; one that
is started again, one that has moved, an archive and a test apply them all. What is told again by agents when they join
(connections, pulses, which workers are left) and timers that begin anew are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Any

from swarmtrain.coordinator.core.generation import Generation
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.protocol.facts import Attempt, ClockOrigin, Failure, Incident, Outcome
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import (
    CoordinatorMoved,
    CoordinatorStarted,
    Ended,
    GenerationEnded,
    GenerationFailed,
    GenerationFormed,
    NodeJoined,
    Recovered,
    ResizeAsked,
    StopAsked,
    StopOrdered,
    Submitted,
    WorkersStarted,
)
from swarmtrain.protocol.schema import Struct
from swarmtrain.protocol.status import Worker


class RunState(Struct):
    """A run after some of its events; the defaults are those of one that has none. Times are Unix time, by its clock.

    Attributes:
        created, trained, ended: of its first event, of the first time that all workers ran, of its end; None: not yet.
        started: the newest time that all workers ran.
        last: of the newest event.
        clock: by which those are counted.
        reason: why it ended.
        causes: of its failure, the root cause first.
        workers: as it left them, once it has ended.
        wanted: how many nodes a person wants; None: nobody has said.
        joined: the newest joining of each node, and of its agent.
        names: what agents are called, by their machine's id and its own name.
        replaced: incarnations in whose place another agent has joined.
        generation: the newest.
        formed: when it was.
        began: all of its workers have been seen running.
        failures: what it does not survive, in the order in which it was heard of, until it has ended.
        failed_at: when the first of them was heard of.
        stopping: its workers are told to end.
        history: how generations failed.
        incident: what the run has not gone on from yet; None: nothing.
        recoveries: what it has gone on from.
        not_before: when the next generation may form; 0: at once.
        moves: how often the coordinator has begun on another machine.
        just_moved: no generation was formed since the last time, and some were before.
    """

    created: float | None = None
    trained: float | None = None
    started: float | None = None
    ended: float | None = None
    last: float = 0.0
    clock: ClockOrigin = field(default_factory=lambda: ClockOrigin("", 0.0))

    phase: Phase = Phase.GATHERING
    outcome: Outcome | None = None
    reason: str = ""
    causes: tuple[Failure, ...] = ()
    workers: tuple[Worker, ...] = ()

    stop_asked: bool = False
    wanted: int | None = None

    joined: Mapping[str, NodeJoined] = field(default_factory=dict)
    names: Mapping[tuple[str, str], str] = field(default_factory=dict)
    replaced: frozenset[str] = frozenset()

    generation: Generation = field(default_factory=Generation)
    formed: float = 0.0
    began: bool = False
    failures: tuple[Failure, ...] = ()
    failed_at: float = 0.0
    stopping: StopOrdered | None = None

    history: tuple[Attempt, ...] = ()
    incident: Incident | None = None
    recoveries: tuple[Recovered, ...] = ()
    not_before: float = 0.0

    moves: int = 0
    just_moved: bool = False

    def apply(self, event: Event) -> RunState:
        """The state after one more event."""
        created = event.time if self.created is None else self.created
        return replace(self, created=created, last=event.time, **_changes(self, event))

    def abandoned(self) -> RunState:
        """As an archive shows a run that nobody leads, of whose end the journal does not tell."""
        if self.phase is Phase.ENDED:
            return self
        reason = "its coordinator was killed, so nobody knows how it ended"
        if self.created is None:
            reason = "its start was cut off before its coordinator had begun"
        return replace(
            self, phase=Phase.ENDED, outcome=Outcome.FAILED, reason=reason, failures=(), stopping=None
        )


def replay(events: Iterable[Event]) -> RunState:
    """The state that a run's events amount to, from the first on."""
    state = RunState()
    for event in events:
        state = state.apply(event)
    return state


def _changes(state: RunState, event: Event) -> dict[str, Any]:
    """What an event changes."""
    match event:
        case Submitted(clock=clock) | CoordinatorStarted(clock=clock):
            return {"clock": clock}
        case CoordinatorMoved():
            formed = state.generation.number > 0
            return {"clock": event.clock or state.clock, "moves": event.moved, "just_moved": formed}
        case StopAsked():
            return {"stop_asked": True}
        case ResizeAsked(nodes=nodes):
            return {"wanted": nodes}
        case NodeJoined():
            return _joins(state, event)
        case GenerationFormed():
            return _forms(event)
        case WorkersStarted():
            trained = event.time if state.trained is None else state.trained
            return {"began": True, "started": event.time, "trained": trained}
        case GenerationFailed() | StopOrdered() if state.phase is Phase.GATHERING and state.generation.number:
            return {}  # of a generation whose beginning the disk has damaged
        case GenerationFailed(failure=failure):
            failed_at = state.failed_at if state.failures else event.time
            return {"failures": (*state.failures, failure), "failed_at": failed_at}
        case StopOrdered():
            return {"phase": Phase.STOPPING, "stopping": event}
        case GenerationEnded():
            return _ends_generation(state, event)
        case Recovered():
            return {"incident": None, "recoveries": (*state.recoveries, event)}
        case Ended():
            return {
                "phase": Phase.ENDED,
                "ended": event.time,
                "outcome": event.outcome,
                "reason": event.reason,
                "causes": tuple(event.causes),
                "workers": tuple(event.workers),
            }
        case _:
            return {}


def _joins(state: RunState, event: NodeJoined) -> dict[str, Any]:
    """An agent gets its name, and nobody who had it before gets it back."""
    asked = (event.node, event.node.rpartition("-")[0])  # which of them is in no event
    known = (state.joined.get(event.node), state.generation.parts.get(event.node))
    before = {agent.incarnation for agent in known if agent is not None}
    return {
        "joined": {**state.joined, event.node: event},
        "names": {(event.node_id, name): event.node for name in asked} | dict(state.names),
        "replaced": state.replaced | (before - {event.incarnation}),
    }


def _forms(event: GenerationFormed) -> dict[str, Any]:
    """Another attempt begins, with nothing that was true of the one before."""
    return {
        "phase": Phase.RUNNING,
        "generation": Generation.load(event),
        "formed": event.time,
        "began": False,
        "failures": (),
        "failed_at": 0.0,
        "stopping": None,
        "not_before": 0.0,
        "just_moved": False,
    }


def _ends_generation(state: RunState, event: GenerationEnded) -> dict[str, Any]:
    history = state.history
    if event.attempt is not None and (not history or history[-1].generation != event.attempt.generation):
        history = (*history, event.attempt)
    return {
        "phase": Phase.GATHERING,
        "failures": (),
        "failed_at": 0.0,
        "stopping": None,
        "history": history,
        "incident": event.incident,
        "not_before": event.time + event.wait if event.wait else 0.0,
    }
