"""What clients ask of a coordinator, or of the archive that it leaves.

Each request has the key ``op`` with its name, and ``swarmtrain`` with the version of the protocol. Its replies come
until one of them is done or an error; requests on one connection are served one after the other.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Generic, Literal, NamedTuple, TypeVar, Union, get_args

from swarmtrain.protocol.codec import Family
from swarmtrain.protocol.replies import NodeReply, RunReply
from swarmtrain.protocol.schema import OMITTED, Struct, message

R = TypeVar("R", RunReply, NodeReply)


class Request(Generic[R]):
    """Something that is asked. The parameter is the type of its replies."""

    replies: type[R]


class RunRequest(Request[RunReply], Struct):
    """What the coordinator answers by itself."""

    replies = RunReply


class NodeRequest(Request[NodeReply], Struct):
    """What a node's agent answers, or this disk where the node's files are on it.

    Where neither is there, the reply says which node the launcher must reach first.
    """

    replies = NodeReply


@message("status", by="op")
class StatusRequest(RunRequest):
    """How is the run? Reply: `status`."""


@message("explain", by="op")
class ExplainRequest(RunRequest):
    """What is wrong with the run? Reply: `diagnosis`."""


@message("events", by="op")
class EventsRequest(RunRequest):
    """What has happened? Replies: `event`, each.

    Attributes:
        follow: go on until the run has ended.
        after: leave out the events up to this number.
    """

    follow: bool = False
    after: int = 0


@message("logs", by="op")
class LogsRequest(RunRequest):
    """What have the workers written? Replies: `lines`; followed, also `caught_up` and `unfinished`.

    Attributes:
        ranks, nodes: of these alone.
        since: Unix time; negative: so many seconds ago, by the run's clock.
        tail: the last so many lines.
        follow: go on until the run has ended.
        unfinished: tell of the lines that go on, too.
    """

    ranks: Annotated[tuple[int, ...], OMITTED] = ()
    nodes: Annotated[tuple[str, ...], OMITTED] = ()
    since: Annotated[float, OMITTED] = 0.0
    tail: Annotated[int | None, OMITTED] = None
    follow: bool = False
    unfinished: Annotated[bool, OMITTED] = False


@message("watch", by="op")
class WatchRequest(RunRequest):
    """Everything as it comes. Replies: `event`, `lines`, `unfinished` and `status`; done when the run has ended.

    Attributes:
        after: leave out the events up to this number.
        output: tell what the workers write.
        tail: begin with so many of the last lines; with all of them when it is missing.
        unfinished: tell of the lines that go on, too.
    """

    after: int = 0
    output: bool = True
    tail: Annotated[int | None, OMITTED] = None
    unfinished: Annotated[bool, OMITTED] = False


@message("metrics", by="op")
class MetricsRequest(RunRequest):
    """What have the workers reported? Replies: `metrics`; done says after which one to go on.

    Attributes:
        after: leave out so many.
        follow: go on until the run has ended.
    """

    after: int = 0
    follow: bool = False


@message("stacks", by="op")
class StacksRequest(RunRequest):
    """What do the workers do now? Replies: `stacks`, of each node. Refused while no worker runs.

    Attributes:
        children: also the processes that they have forked.
    """

    children: Annotated[bool, OMITTED] = False


@message("series", by="op")
class SeriesRequest(RunRequest):
    """What was measured? Replies: `series`, one at a time, in the order of their names; none where nothing fits.

    Attributes:
        names: patterns as a shell has them (``train/*``), of names, or of names with their labels; all by default.
        ranks, nodes: of these alone.
        labels: patterns of the values of labels.
        points: tell the points, too, not only the newest.
        x: where a point stands: Unix time, the training's steps, or the samples that it has had.
        start, end: of the range on that axis; negative times: so many seconds ago, by the run's clock.
        most: points of a series, at most: what lies close together becomes one. 0: all that are kept.
        every: how far apart they are to be on the axis, in place of `most`.
        repeated: also the steps that were made again later, by another generation.
    """

    names: Annotated[tuple[str, ...], OMITTED] = ()
    ranks: Annotated[tuple[int, ...], OMITTED] = ()
    nodes: Annotated[tuple[str, ...], OMITTED] = ()
    labels: Annotated[dict[str, str], OMITTED] = field(default_factory=dict)
    points: bool = True
    x: Literal["time", "step", "samples"] = "time"
    start: Annotated[float | None, OMITTED] = None
    end: Annotated[float | None, OMITTED] = None
    most: int = 1000
    every: Annotated[float, OMITTED] = 0.0
    repeated: Annotated[bool, OMITTED] = False


@message("stop", by="op")
class StopRequest(RunRequest):
    """Stop the run. Reply: `status`, when it has ended.

    Attributes:
        reason: why it cannot start, as its launcher knows; a person's wish where there is none.
    """

    reason: Annotated[str, OMITTED] = ""


@message("reader", by="op")
class ReaderRequest(RunRequest):
    """The key by which somebody else may read the run, and do nothing more. Reply: `reader_key`."""


@message("alert_test", by="op")
class AlertTestRequest(RunRequest):
    """Send a test to everybody who is told of alerts. Replies: `alert_answer`, of each."""


KILLED = "killed by a person"  # how `conclude` has it where the coordinator could not stop its run itself


@message("conclude", by="op")
class ConcludeRequest(RunRequest):
    """Whoever has killed the coordinator says how the run ended. Reply: `status`. Only of an archive."""

    outcome: str
    reason: str


@message("resize", by="op")
class ResizeRequest(RunRequest):
    """Go on with so many nodes. Reply: `status`, before the group has changed.

    Refused outside of the job's range, for named nodes, and after the end.
    """

    nodes: int


@message("note", by="op")
class NoteRequest(RunRequest):
    """Write an event of kind ``chaos``. Reply: `event`. Refused after the end."""

    kind: str
    text: str


@message("exec", by="op")
class ExecRequest(NodeRequest):
    """Run a command on a node, or beside a rank. Replies: `stdout`, `stderr`; done with its exit code.

    What a person types follows as `TerminalInput`.

    Attributes:
        tty: give it a terminal, of so many rows and columns.
    """

    argv: tuple[str, ...]
    node: Annotated[str, OMITTED] = ""
    rank: Annotated[int | None, OMITTED] = None
    tty: Annotated[bool, OMITTED] = False
    rows: Annotated[int | None, OMITTED] = None
    columns: Annotated[int | None, OMITTED] = None


@message("fetch", by="op")
class FetchRequest(NodeRequest):
    """A file or directory. Replies: `file`, then its `data`; done with bytes and checksum. A directory comes as a tar.

    Attributes:
        path: relative to the working directory, or to the node's data.
        node: by default that of rank 0.
    """

    path: str
    node: Annotated[str, OMITTED] = ""


@message("list", by="op")
class ListRequest(NodeRequest):
    """What lies in a directory. Replies: `entries`, that of the directory itself first.

    Attributes:
        recursive: also what lies in the directories in it.
    """

    path: str = "."
    node: Annotated[str, OMITTED] = ""
    recursive: Annotated[bool, OMITTED] = False


@message("profile", by="op")
class ProfileRequest(NodeRequest):
    """Record the next steps of a rank. Replies: `profile`, each; then its trace, as `fetch` has it.

    Refused while one of the rank is recorded, and where it makes no steps. Who hangs up takes it back.

    Attributes:
        steps: how many, after one that warms the profiler up.
        shapes, memory: also those of operators' inputs; what they allocate.
        within: seconds in which the next step is to come.
    """

    rank: int
    steps: int
    shapes: Annotated[bool, OMITTED] = False
    memory: Annotated[bool, OMITTED] = False
    within: float = 60.0


class SnapshotKey(NamedTuple):
    """By which snapshots are ordered."""

    fence: int
    step: int


@message("snapshots", by="op")
class SnapshotsRequest(NodeRequest):
    """Which nodes there are, or what a node has. Replies: `nodes`; `snapshots`; for ``read`` as `fetch`.

    Attributes:
        do: what to do; all but ``nodes`` with a node.
        tier, file: which to read.
        keys: which to remove.
    """

    do: Literal["nodes", "list", "verify", "read", "remove"]
    node: Annotated[str, OMITTED] = ""
    tier: Annotated[str, OMITTED] = ""
    file: Annotated[str, OMITTED] = ""
    keys: Annotated[list[SnapshotKey] | None, OMITTED] = None


ClientRequest = Union[  # noqa: UP007 - a union of messages is an argument of types
    StatusRequest,
    ExplainRequest,
    EventsRequest,
    LogsRequest,
    WatchRequest,
    MetricsRequest,
    StacksRequest,
    SeriesRequest,
    AlertTestRequest,
    ReaderRequest,
    StopRequest,
    ConcludeRequest,
    ResizeRequest,
    NoteRequest,
    ExecRequest,
    FetchRequest,
    ListRequest,
    SnapshotsRequest,
    ProfileRequest,
]
REQUESTS: Family[ClientRequest] = Family("a request", *get_args(ClientRequest))

# What readers may ask for: it changes nothing, on no node. To explain a standstill asks ranks for their stacks.
READING = (
    StatusRequest,
    ExplainRequest,
    EventsRequest,
    LogsRequest,
    WatchRequest,
    MetricsRequest,
    SeriesRequest,
)


class TerminalSize(NamedTuple):
    """Of a person's window."""

    rows: int
    columns: int


class TerminalInput(Struct):
    """What follows an `exec`: one of these.

    Attributes:
        stdin: bytes in base 64.
        eof: there is no more.
        resize: the window has changed.
    """

    stdin: Annotated[str, OMITTED] = ""
    eof: Annotated[bool, OMITTED] = False
    resize: Annotated[TerminalSize | None, OMITTED] = None
