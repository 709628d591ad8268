"""All that is known of a run when somebody asks what is wrong with it: what rules look at. Pure.

The coordinator makes it of what it keeps (coordinator/clients/explain.py), the client of what a coordinator that does
not know the question tells it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TypeVar

from swarmtrain.diagnosis.echoes import is_consequence
from swarmtrain.diagnosis.frames import MOST
from swarmtrain.diagnosis.measures import NodeMeasures, RankPace
from swarmtrain.protocol.evidence.seen import FlightReport
from swarmtrain.protocol.facts import Attempt, Failure
from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.journal.events import GenerationEnded, GenerationFailed, GenerationFormed
from swarmtrain.protocol.schema import Struct
from swarmtrain.protocol.status import Status

E = TypeVar("E", bound=Event)

# A line of a traceback, or of a log, in which something was raised.
_RAISED = re.compile(
    r"^(?:\[rank\d+\]: ?)?[\w.]*(?:Error|Exception|Exit|Interrupt|Warning)\b.*", re.MULTILINE
)
_COMMAND = re.compile(r"(?:subprocess\.)?(?:CalledProcessError|TimeoutExpired): ")


class Case(Struct, kw_only=True):
    """A run that is to be explained.

    Attributes:
        status: its status document.
        events: of its journal, all.
        causes: what it fails of, the root cause first; empty where nothing has failed.
        lines: by rank, the last that it wrote.
        stacks: by rank, a dump of its threads, as far as it was asked for.
        flights: by rank, the newest collectives that it has begun; empty where nobody asked for them.
        looked: when the newest of these stacks and records were taken, Unix time.
        measures: by node, the newest before the failure, or until now.
        paces: by rank, where the time of its steps goes; of a run that lives.
        stands: no step is made now although all members are there.
    """

    status: Status
    events: Sequence[Event] = ()
    causes: Sequence[Failure] = ()
    lines: Mapping[int, Sequence[str]] = field(default_factory=dict)
    stacks: Mapping[int, str] = field(default_factory=dict)
    flights: Mapping[int, FlightReport] = field(default_factory=dict)
    looked: float = 0.0
    measures: Mapping[str, NodeMeasures] = field(default_factory=dict)
    paces: Mapping[int, RankPace] = field(default_factory=dict)
    stands: bool = False

    @staticmethod
    def of(status: Status, events: Sequence[Event]) -> Case:
        """What a client can know."""
        return Case(status=status, events=events, causes=_causes(status, events))

    @property
    def first(self) -> Failure | None:
        """The root cause."""
        return self.causes[0] if self.causes else None

    @property
    def own(self) -> list[Failure]:
        """The failures that are no echo of another's."""
        return [each for each in self.causes if not is_consequence(each)]

    @property
    def echoes(self) -> list[Failure]:
        """The failures that only tell of another's."""
        return [each for each in self.causes if is_consequence(each)]

    @property
    def attempts(self) -> list[Attempt]:
        """How the generations before this one have failed."""
        return [each.attempt for each in self.of_kind(GenerationEnded) if each.attempt is not None]

    @property
    def backend(self) -> str:
        """Of the last generation; empty before the first."""
        return next((each.backend for each in reversed(self.of_kind(GenerationFormed))), "")

    def of_kind(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def ranks_on(self, node: str) -> list[int]:
        """The ranks that a node has in this generation."""
        return [worker.rank for worker in self.status.workers if worker.node == node]


def said(failure: Failure) -> str:
    """What a failure says of itself: its summary, and what its traceback raises, also of another process.

    Of a command that failed only that it did: its line may have any words in it.
    """
    if _COMMAND.match(failure.summary):
        return failure.summary.partition(":")[0]
    return "\n".join([failure.summary, *_RAISED.findall(failure.traceback[-MOST:]), last_words(failure)])


def last_words(failure: Failure) -> str:
    """The exception that Python printed as the last thing, where the worker could not record it; else nothing."""
    if failure.kind != "exit" or failure.code != 1 or failure.traceback:
        return ""
    last = next((line for line in reversed(failure.log) if line.strip()), "")
    return last if _RAISED.match(last) else ""


def written(failure: Failure) -> str:
    """What its rank wrote before its end."""
    return "\n".join(failure.log)


def _causes(status: Status, events: Sequence[Event]) -> list[Failure]:
    """Of the end, or of what is being healed now: then in the order in which they were heard of, echoes last."""
    if status.cause is not None:
        first = Failure(**{name: getattr(status.cause, name) for name in Failure._positional})
        return [first, *status.cause.others]
    if status.state == "failed" and status.reason:  # it never got to where something could fail
        return [Failure("placement", "", status.ended or 0.0, status.reason)]
    if not status.healing or status.has_ended:
        return []
    failures: list[Failure] = []
    is_over = False
    for event in events:
        if isinstance(event, GenerationFormed):
            is_over = True
        elif isinstance(event, GenerationFailed):
            failures = [*([] if is_over else failures), event.failure]
            is_over = False
    return sorted(failures, key=is_consequence)
