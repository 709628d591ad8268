"""The events of a run's journal, one class a kind.

An event has a number, a time, a sentence for people, and what its kind needs. `load` makes one of a journal's line and
`Event.dump` the line again, equal to what was read: keys that this version does not know are kept, and so is an event
of a kind that it does not know. What a run's state is after an event, coordinator/core/state.py says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, ClassVar, TypeVar

from swarmtrain.errors import ChannelError
from swarmtrain.protocol import codec
from swarmtrain.protocol.codec import OMITTED, Key
from swarmtrain.protocol.failure import Failure

VERSION = 1  # of the journal: told by its first event; 0 where that tells none
_HEAD = ("seq", "t", "kind", "text")

E = TypeVar("E", bound="Event")


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a run.

    Attributes:
        text: a sentence for people.
        seq: its number, from 1 and without a gap; 0 before it is in the journal.
        t: Unix time, by the run's own clock.
        more: keys that this version does not know.
    """

    kind: ClassVar[str] = ""

    text: str
    seq: int = 0
    t: float = 0.0
    more: Annotated[Mapping[str, Any], OMITTED] = field(default_factory=dict)

    def numbered(self: E, seq: int, t: float) -> E:
        """The same as the journal takes it."""
        return dataclasses.replace(self, seq=seq, t=t)

    def dump(self) -> dict[str, Any]:
        """As a line of the journal, and as clients and agents get it."""
        head = {"seq": self.seq, "t": self.t, "kind": self.kind, "text": self.text}
        body = codec.dump(self)
        return head | {key: body[key] for key in body if key not in (*_HEAD, "more")} | dict(self.more)


# ---- what events are made of ---------------------------------------------------------------------------------


class Outcome(str, Enum):
    """How a run ends: in exactly one of these."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ClockOrigin:
    """By what clock a run counts: of which boot of a machine, and the Unix time at which that was 0."""

    boot: str
    epoch: float


@dataclass(frozen=True)
class NodePart:
    """What one node has in a generation.

    Attributes:
        incarnation: of the agent that was asked; another one has no part in it.
        group_rank: the node's own.
    """

    incarnation: str
    ranks: list[int]
    group_rank: int


@dataclass(frozen=True)
class MasterAddress:
    """Where rank 0 has its store."""

    node: str
    address: str
    port: int


@dataclass(frozen=True)
class StopOrder:
    """What a generation's agents are told about stopping.

    Attributes:
        grace: seconds until those that are left are killed.
        how: ``term``, ``save`` or ``kill``, as `agent.workers.Workers.stop` takes it.
    """

    generation: Annotated[int, Key("g")]
    grace: float
    how: str


@dataclass(frozen=True)
class FinalWorker:
    """One rank of the last generation, as a run left it. Times are Unix time.

    Attributes:
        state: starting, running, exited or killed.
        exit: in words.
        left: when it had gone.
        paused: with all work saved, as it was asked to.
        ended: after its last line of code, however its process ended.
    """

    rank: int
    local_rank: int
    node: str
    state: str = "starting"
    pid: int | None = None
    exit: str = ""
    code: int | None = None
    step: int | None = None
    signal: int | None = None
    left: float = 0.0
    paused: bool = False
    ended: bool = False


@dataclass(frozen=True)
class Incident:
    """A generation that ended before its work was done, and that another one goes on from.

    Attributes:
        since: Unix time from which the training stood still.
        what: the cause, as the beginning of a sentence.
        step: the last step that was made; None where steps are unknown.
        planned: the group changed with all work saved.
    """

    since: float
    what: str
    step: int | None
    nodes: int
    planned: bool


@dataclass(frozen=True)
class Attempt:
    """How one generation failed.

    Attributes:
        kind: of its root cause, as in `Failure`.
        signature: the root cause in words that are the same when the same thing happens again.
        began: the step it went on from; None when nobody told.
        step: the last step it made; None when it made none, or nobody told.
        seconds: from its start to its failure.
        ended: when it failed: Unix time in the journal, monotonic where decisions are made.
    """

    generation: int
    kind: str
    signature: str
    node: str = ""
    rank: int | None = None
    began: int | None = None
    step: int | None = None
    seconds: float = 0.0
    ended: float = 0.0

    @property
    def progressed(self) -> bool:
        """Whether it made steps of its own."""
        return self.step is not None and self.step > (self.began or 0)


# Those that add no field are no dataclasses of their own: making one takes as long as importing a module.


# ---- a run's beginning and end -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Submitted(Event):
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


@dataclass(frozen=True, kw_only=True)
class CoordinatorStarted(Event):
    """The coordinator was started again."""

    kind: ClassVar[str] = "coordinator"
    clock: ClockOrigin


@dataclass(frozen=True, kw_only=True)
class CoordinatorMoved(Event):
    """The coordinator begins on another machine.

    Attributes:
        moved: the number of the move.
    """

    kind: ClassVar[str] = "moved"
    moved: int
    clock: Annotated[ClockOrigin | None, OMITTED] = None


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
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
    workers: list[FinalWorker]
    causes: Annotated[list[Failure], OMITTED] = field(default_factory=list)


# ---- what people want ----------------------------------------------------------------------------------------


class StopAsked(Event):
    """A person wants the run to stop."""

    kind: ClassVar[str] = "stop"


@dataclass(frozen=True, kw_only=True)
class ResizeAsked(Event):
    """A person wants the run to go on with another number of nodes."""

    kind: ClassVar[str] = "resize"
    nodes: int


# ---- its agents ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class NodeJoined(Event):
    """An agent has joined, or is back.

    Attributes:
        node: what it is called in this run.
        node_id: the identity of its machine.
        incarnation: of the agent; another one on the same node has another.
    """

    kind: ClassVar[str] = "joined"
    node: str
    node_id: str
    incarnation: str
    address: str
    interface: str
    gpus: int


# ---- its generations -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class GenerationFormed(Event):
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


@dataclass(frozen=True, kw_only=True)
class GenerationFailed(Event):
    """Something went wrong that the generation does not survive."""

    kind: ClassVar[str] = "failure"
    failure: Failure


class PauseAsked(Event):
    """The workers are asked to save and leave, since the group changes."""

    kind: ClassVar[str] = "pausing"


@dataclass(frozen=True, kw_only=True)
class StopOrdered(Event):
    """The workers of the generation are told to end.

    Attributes:
        began: the step it went on from; None where nobody tells.
        step: its last; None where nobody counts them.
    """

    kind: ClassVar[str] = "stopping"
    order: StopOrder
    began: int | None
    step: int | None


@dataclass(frozen=True, kw_only=True)
class GenerationEnded(Event):
    """The generation is over before its work was done, and another one is to come.

    Attributes:
        attempt: how it failed; None where it did not.
        wait: seconds before the next generation may form.
    """

    kind: ClassVar[str] = "regather"
    incident: Incident
    attempt: Attempt | None
    wait: float


@dataclass(frozen=True, kw_only=True)
class Recovered(Event):
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


# ---- what is worth a word, and changes nothing ---------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Remark(Event):
    """What changes nothing.

    Attributes:
        rank, node: whom it is about, where it is about one.
    """

    rank: Annotated[int | None, OMITTED] = None
    node: Annotated[str, OMITTED] = ""


class NodeLeaving(Remark):
    """An agent is told to go: by Swarm, by `docker service scale`, by a drained node."""

    kind: ClassVar[str] = "leaving"


class NodeLeftOut(Remark):
    """A node on which failures began again and again is left out where others will do."""

    kind: ClassVar[str] = "left_out"


class StragglerSeen(Remark):
    """A rank slows the others down."""

    kind: ClassVar[str] = "straggler"


@dataclass(frozen=True, kw_only=True)
class StallSeen(Event):
    """No step is made.

    Attributes:
        rank: for whom the others wait; None where it cannot be told.
    """

    kind: ClassVar[str] = "stall"
    rank: int | None = None


class Warned(Remark):
    """Something is not as it should be."""

    kind: ClassVar[str] = "warning"


class Chosen(Remark):
    """Something was chosen for the user, and why."""

    kind: ClassVar[str] = "choice"


class StrangerRefused(Remark):
    """Somebody who is none of the run's agents or clients wanted in."""

    kind: ClassVar[str] = "refused"


class ChaosCaused(Remark):
    """`swarmtrain chaos` has done damage on purpose."""

    kind: ClassVar[str] = "chaos"


class SnapshotFailed(Remark):
    """A node's disk takes no snapshots."""

    kind: ClassVar[str] = "snapshot_failed"


class SnapshotSkipped(Remark):
    """A node's disk was too slow for one."""

    kind: ClassVar[str] = "snapshot_skipped"


class SnapshotsAgain(Remark):
    """A node's snapshots can be written again."""

    kind: ClassVar[str] = "snapshot_again"


class FilesKept(Remark):
    """An agent has kept what the run had written over the code."""

    kind: ClassVar[str] = "kept"


class SpawnerRestarted(Remark):
    """The process that starts a node's workers has died, and is started again."""

    kind: ClassVar[str] = "spawner"


class StartsWarm(Remark):
    """A node's workers are forked from a process that has imported torch."""

    kind: ClassVar[str] = "warm"


class StartsCold(Remark):
    """A worker, or all of a node's, are started anew, and why."""

    kind: ClassVar[str] = "cold"


class LineDamaged(Event):
    """In the place of an event that the disk has damaged."""

    kind: ClassVar[str] = "damaged"


@dataclass(frozen=True, kw_only=True)
class UnknownEvent(Event):
    """An event of another version, as it was read.

    Attributes:
        is_a: its kind.
    """

    is_a: str

    @property
    def kind(self) -> str:  # type: ignore[override]
        return self.is_a

    def dump(self) -> dict[str, Any]:
        """As it was read."""
        return {"seq": self.seq, "t": self.t, "kind": self.is_a, "text": self.text} | dict(self.more)


def _kinds(of: type[Event]) -> dict[str, type[Event]]:
    """The classes of events below one, by kind."""
    found = {of.kind: of} if isinstance(of.kind, str) and of.kind else {}
    for each in of.__subclasses__():
        found |= _kinds(each)
    return found


KINDS: Mapping[str, type[Event]] = _kinds(Event)


def _known(kind: Any) -> set[str]:
    return {each.key for each in codec.fields_of(kind)}


def load(record: Mapping[str, Any]) -> Event:
    """The event of a line.

    Raises:
        KeyError, TypeError, ValueError: it is no event of any version.
    """
    seq, t, kind, text = int(record["seq"]), record["t"], record["kind"], record["text"]
    float(t)
    if not isinstance(kind, str) or not isinstance(text, str):
        raise TypeError("an event has a kind and a text")
    made = KINDS.get(kind)
    if made is not None:
        known = _known(made)
        more = {key: record[key] for key in record if key not in known and key not in _HEAD}
        try:
            return codec.load(made, {**record, "more": more})
        except ChannelError:
            pass  # of a version that tells it in another way
    more = {key: record[key] for key in record if key not in _HEAD}
    return UnknownEvent(is_a=kind, text=text, seq=seq, t=t, more=more)


def remark(kind: str, text: str, *, node: str = "") -> Event:
    """What an agent or a client says for the journal, which never changes anything: of whatever kind they name it."""
    made = KINDS.get(kind)
    if made is not None and issubclass(made, Remark):
        return made(text=text, node=node)
    return UnknownEvent(is_a=kind if made is None else "note", text=text, more={"node": node} if node else {})
