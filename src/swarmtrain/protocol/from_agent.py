"""What agents say to the coordinator.

Output and metrics are said again from the last offset that the coordinator has acknowledged; what else matters is said
again whenever an agent joins. Times are monotonic, of the agent's own machine.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal, NamedTuple, Union, get_args

from swarmtrain.protocol.codec import Family
from swarmtrain.protocol.evidence.seen import StackReport as StackReport
from swarmtrain.protocol.replies import NodeReply
from swarmtrain.protocol.schema import INLINE, OMITTED, Document, Struct, WireKey, message
from swarmtrain.protocol.shared_files import SharedBrought, SharedReport


class WorkerError(Struct):
    """What a worker recorded of its exception, or why it could not be started.

    Attributes:
        summary: its last line.
        time: monotonic; 0 where it is that of the worker's end.
    """

    summary: str
    traceback: str = ""
    time: float = 0.0


class WorkerEnd(Struct):
    """How a worker ended.

    Attributes:
        code: its exit code; null where a signal ended it.
        paused: it has left with everything saved, as it was asked to.
        ended: its script had left its last line of code.
        why: what goes on after its exit, in words.
        memory: why it ran out of memory, where it did.
    """

    code: int | None
    signal: int | None
    paused: bool = False
    ended: bool = False
    why: Annotated[str, OMITTED] = ""
    error: Annotated[WorkerError | None, OMITTED] = None
    memory: Annotated[str, OMITTED] = ""


@message("worker", nested=True)
class WorkerReport(Struct):
    """A worker starts, runs, or has ended.

    Attributes:
        time: when it began or ended, monotonic.
        killed: it was told to end.
        cold: why it starts cold, where it was to be forked.
        end: how it ended, once it has.
    """

    generation: Annotated[int, WireKey("g")]
    rank: int
    state: Literal["starting", "running", "exited"]
    time: Annotated[float, WireKey("t")]
    local_rank: int = 0
    pid: Annotated[int | None, OMITTED] = None
    killed: Annotated[bool, OMITTED] = False
    cold: Annotated[str, OMITTED] = ""
    end: Annotated[WorkerEnd | None, INLINE] = None


class PulseReport(NamedTuple):
    """A worker's pulse (wire/pulse.py), with times as seconds ago; null for what has not happened."""

    generation: int
    rank: int
    step: int
    mark: int
    activity: int
    source: int
    paused: int
    busy: float
    resumed: int
    stepped_ago: float | None
    first_ago: float | None
    lived_ago: float | None = None
    sign: str = ""
    epoch: int | None = None
    counted: int | None = None


class CopyState(Struct):
    """An agent's copy of the journal.

    Attributes:
        count: its events.
        newest: the time of the last of them.
        moved: the highest number of a move of the coordinator that the agent knows of.
    """

    count: Annotated[int, WireKey("journal")]
    moved: int
    newest: Annotated[float, WireKey("journal_t")] = 0.0


class Joiner(Struct):
    """Who joins, where it is, and how it stands.

    Attributes:
        node: the name of the machine, or the one that it was given.
        node_id: its identity.
        incarnation: of this agent, as another one may come in its place.
        slot: its order among its peers.
        workers: how many it will have.
        backend: what would do for this node alone.
        address, interface, why: where it talks to the others, and why there.
        port: one that is free there.
        time: of this moment, monotonic.
        generation: the last one that it has heard of.
        states: of that one's workers.
        idle: none of them is left.
        warm: workers could start at once.
        leaving: it is told to go.
        copy: of the journal; helpers keep none.
        clock: Unix time of this machine at this moment; 0 of who does not say.
    """

    node: str
    node_id: str
    incarnation: str
    slot: int
    workers: int
    gpus: int
    backend: str
    address: str
    interface: str
    why: str
    port: int
    time: float
    generation: int
    states: list[WorkerReport]
    idle: bool
    warm: bool
    leaving: bool
    copy: Annotated[CopyState | None, INLINE] = None
    clock: Annotated[float, OMITTED] = 0.0


@message("join", nested=True)
class Join(Struct):
    """The first message after the proof of identity.

    Attributes:
        role: an agent, a helper that only serves a node's files, or a client that comes through a relay.
        who: of all but clients.
    """

    role: Literal["agent", "files", "client"]
    who: Annotated[Joiner | None, INLINE] = None


@message("beat")
class Beat(Struct):
    """A sign of life, twice a second, which is answered.

    Attributes:
        sent: monotonic.
        pulses: of its workers.
    """

    sent: Annotated[float, WireKey("beat")]
    pulses: list[PulseReport]


@message("output", nested=True)
class OutputPiece(Struct):
    """A piece of what a rank wrote.

    Attributes:
        offset: where it begins in the rank's file, in bytes.
        text: as `wire.frames.text` makes it.
        last: nothing follows.
    """

    generation: Annotated[int, WireKey("g")]
    rank: Annotated[int, WireKey("r")]
    offset: Annotated[int, WireKey("o")]
    text: Annotated[str, WireKey("d")]
    last: Annotated[bool, OMITTED] = False


@message("metrics", nested=True)
class MetricsPiece(Struct):
    """Whole lines of a rank's metrics, with their offset in its file.

    Attributes:
        boot: as in `measured`; 0 where an agent does not tell it.
    """

    generation: Annotated[int, WireKey("g")]
    rank: Annotated[int, WireKey("r")]
    offset: Annotated[int, WireKey("o")]
    text: Annotated[str, WireKey("d")]
    boot: Annotated[float, OMITTED] = 0.0


@message("measured", nested=True)
class MeasuredPiece(Struct):
    """Whole lines of what a node has measured of itself, with their offset in one of its files.

    Attributes:
        number: of the file.
        boot: the Unix time at which this node's monotonic time was 0, by which its Unix times become the run's.
    """

    number: int
    offset: Annotated[int, WireKey("o")]
    text: Annotated[str, WireKey("d")]
    boot: float


@message("idle", nested=True)
class Idle(Struct):
    """No worker of a generation is left on this node.

    Attributes:
        port: one that is free now.
    """

    generation: Annotated[int, WireKey("g")]
    port: int


@message("drained")
class Drained(Struct):
    """Everything that a generation's workers wrote on this node has been acknowledged."""

    generation: Annotated[int, WireKey("drained")]


@message("warm")
class Warm(Struct):
    """Workers can be started at once."""

    warm: Literal[True] = True


@message("leaving")
class Leaving(Struct):
    """This agent is told to go."""

    leaving: Literal[True] = True


@message("stacks", nested=True)
class StacksReport(Struct):
    """What the workers of a generation do on this node, as was asked."""

    generation: Annotated[int, WireKey("g")]
    ranks: dict[int, StackReport]


@message("trouble")
class TroubleReport(Struct):
    """This agent cannot do its part, and why."""

    text: Annotated[str, WireKey("trouble")]


@message("note", nested=True)
class NoteReport(Struct):
    """A sentence for the journal."""

    kind: str
    text: str


@message("reply")
class Answer(Struct):
    """A reply to what a client asked of this node.

    Attributes:
        number: of the request.
        reply: what the client gets.
    """

    number: Annotated[int, WireKey("reply")]
    reply: Annotated[NodeReply, INLINE]


@message("copy")
class CopyPiece(Struct):
    """Events of this node's copy of the journal, for a coordinator that begins elsewhere.

    Attributes:
        done: these were the last.
        age: seconds since the last of them came; null where nobody knows.
    """

    events: Annotated[list[Document], WireKey("copy")] = field(default_factory=list)
    done: bool = False
    age: Annotated[float | None, OMITTED] = None


FromAgent = Union[  # noqa: UP007 - a union of messages is an argument of types
    Join,
    Beat,
    OutputPiece,
    MetricsPiece,
    MeasuredPiece,
    WorkerReport,
    Idle,
    Drained,
    Warm,
    Leaving,
    StacksReport,
    TroubleReport,
    NoteReport,
    Answer,
    CopyPiece,
    SharedReport,
    SharedBrought,
]
FROM_AGENT: Family[FromAgent] = Family("a message of an agent", *get_args(FromAgent))
