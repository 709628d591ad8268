"""The events of a run's journal that change it, one class a kind; those that do not are in remarks.py.

An event has a number, a time, a sentence for people, and what its kind needs. `load` makes one of a journal's line and
`Event.dump` the line again, equal to what was read: keys that this version does not know are kept, and so is an event
of a kind that it does not know. What a run's state is after an event, coordinator/core/state.py says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, ClassVar

from swarmtrain.errors import ChannelError
from swarmtrain.protocol import codec
from swarmtrain.protocol.facts import (
    Attempt,
    ClockOrigin,
    Failure,
    Incident,
    MasterAddress,
    NodePart,
    Outcome,
    StopOrder,
)
from swarmtrain.protocol.journal.event import HEAD, Event, UnknownEvent
from swarmtrain.protocol.journal.remarks import Remark
from swarmtrain.protocol.journal.told import AlertGivenUp, AlertRaised, AlertSettled
from swarmtrain.protocol.schema import OMITTED, fields_of
from swarmtrain.protocol.status import Worker

VERSION = 1  # of the journal: told by its first event; 0 where that tells none


# ---- a run's beginning and end -------------------------------------------------------------------------------


class Submitted(Event, kw_only=True):
    """The first of all.

    Attributes:
        resume: the run that it goes on from; empty without one.
        version: of the journal.
    """

    kind: ClassVar[str] = "submitted"
    run: str
    resume: str
    clock: ClockOrigin
    version: Annotated[int, OMITTED] = 0


class CoordinatorStarted(Event, kw_only=True):
    """The coordinator was started again."""

    kind: ClassVar[str] = "coordinator"
    clock: ClockOrigin


class CoordinatorMoved(Event, kw_only=True):
    """The coordinator begins on another machine.

    Attributes:
        moved: the number of the move.
    """

    kind: ClassVar[str] = "moved"
    moved: int
    clock: Annotated[ClockOrigin | None, OMITTED] = None


class Ended(Event, kw_only=True):
    """The run is over.

    Attributes:
        reason: why; empty where it succeeded.
        workers: of its last generation.
        causes: of its failure, the root cause first.
    """

    kind: ClassVar[str] = "ended"
    outcome: Outcome
    reason: str
    generation: int
    workers: list[Worker]
    causes: Annotated[list[Failure], OMITTED] = field(default_factory=list)


# ---- what people want ----------------------------------------------------------------------------------------


class StopAsked(Event):
    """A person wants the run to stop."""

    kind: ClassVar[str] = "stop"


class ResizeAsked(Event, kw_only=True):
    """A person wants the run to go on with another number of nodes."""

    kind: ClassVar[str] = "resize"
    nodes: int


# ---- its agents ----------------------------------------------------------------------------------------------


class NodeJoined(Event, kw_only=True):
    """An agent has joined, or is back.

    Attributes:
        node: what it is called in this run.
        node_id: the identity of its machine.
        incarnation: of the agent; another one on the same node has another.
        boot: when its machine began to count time, which is when it was started: Unix time by the run's clock.
    """

    kind: ClassVar[str] = "joined"
    node: str
    node_id: str
    incarnation: str
    address: str
    interface: str
    gpus: int
    boot: Annotated[float, OMITTED] = 0.0


# ---- its generations -----------------------------------------------------------------------------------------


class GenerationFormed(Event, kw_only=True):
    """Members, ranks and master of the next attempt are fixed.

    Attributes:
        parts: by node.
    """

    kind: ClassVar[str] = "generation"
    generation: int
    parts: dict[str, NodePart]
    backend: str
    master: MasterAddress


class WorkersStarted(Event):
    """All workers of the generation run."""

    kind: ClassVar[str] = "started"


class GenerationFailed(Event, kw_only=True):
    """Something went wrong that the generation does not survive."""

    kind: ClassVar[str] = "failure"
    failure: Failure


class PauseAsked(Event):
    """The workers are asked to save and leave, since the group changes."""

    kind: ClassVar[str] = "pausing"


class StopOrdered(Event, kw_only=True):
    """The workers of the generation are told to end.

    Attributes:
        began: the step it went on from; None where nobody tells.
        step: its last; None where nobody counts them.
    """

    kind: ClassVar[str] = "stopping"
    order: StopOrder
    began: int | None
    step: int | None


class GenerationEnded(Event, kw_only=True):
    """The generation is over before its work was done, and another one is to come.

    Attributes:
        attempt: how it failed; None where it did not.
        wait: seconds before the next generation may form.
    """

    kind: ClassVar[str] = "regather"
    incident: Incident
    attempt: Attempt | None
    wait: float


class Recovered(Event, kw_only=True):
    """Every rank makes steps again.

    Attributes:
        seconds: between the last step before and the first one after.
        at_step: the last step before; None where steps are unknown.
        from_step: that it went on from; None where nobody tells.
        nodes: on how many.
        planned: the group changed with all work saved.
    """

    kind: ClassVar[str] = "recovered"
    seconds: float
    at_step: int | None
    from_step: int | None
    nodes: int
    planned: bool
    generation: int


def _kinds(of: type[Event]) -> dict[str, type[Event]]:
    """The classes of events below one, by kind."""
    found = {of.kind: of} if isinstance(of.kind, str) and of.kind else {}
    for each in of.__subclasses__():
        found |= _kinds(each)
    return found


TOLD = (AlertRaised, AlertSettled, AlertGivenUp)  # which are among these kinds, and in a file of their own

KINDS: Mapping[str, type[Event]] = _kinds(Event)


def _known(kind: Any) -> set[str]:
    return {each.key for each in fields_of(kind)}


def load(record: Mapping[str, object]) -> Event:
    """The event of a line.

    Raises:
        KeyError, TypeError, ValueError: it is no event of any version.
    """
    seq, time, kind, text = record["seq"], record["t"], record["kind"], record["text"]
    if not (isinstance(seq, int) and isinstance(time, int | float)):
        raise TypeError("an event has a number and a time")
    if not (isinstance(kind, str) and isinstance(text, str)):
        raise TypeError("an event has a kind and a text")
    made = KINDS.get(kind)
    if made is not None:
        known = _known(made)
        more = {key: record[key] for key in record if key not in known and key not in HEAD}
        try:
            return codec.load(made, {**record, "more": more})
        except ChannelError:
            pass  # of a version that tells it in another way
    more = {key: record[key] for key in record if key not in HEAD}
    return UnknownEvent(is_a=kind, text=text, seq=seq, time=time, more=more)


def remark(kind: str, text: str, *, node: str = "") -> Event:
    """What an agent or a client says for the journal, which never changes anything: of whatever kind they name it."""
    made = KINDS.get(kind)
    if made is not None and issubclass(made, Remark):
        return made(text=text, node=node)
    return UnknownEvent(is_a=kind if made is None else "note", text=text, more={"node": node} if node else {})
