"""What the coordinator says to agents."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal, NamedTuple, Union, get_args

from swarmtrain.protocol.codec import Family
from swarmtrain.protocol.facts import MasterAddress
from swarmtrain.protocol.requests import SnapshotKey, TerminalInput
from swarmtrain.protocol.schema import OMITTED, Document, Struct, WireKey, message
from swarmtrain.protocol.shared_files import AskShared, BringShared


class KnownOffset(NamedTuple):
    """How much of a rank's file the coordinator has."""

    kind: str
    generation: int
    rank: int
    offset: int


@message("welcome", nested=True)
class Welcome(Struct):
    """The answer to an agent that may take part.

    Attributes:
        node: what it is called in this run.
        directory: the run's own.
        lineage, lineage_owner: the run in whose directories this one works, and that one's submission.
        offsets: what of its output and metrics is known.
        generation: the newest.
        moved: how often the coordinator has begun on another machine.
    """

    run: str
    node: str
    directory: str
    lineage: str
    lineage_owner: str
    offsets: list[KnownOffset]
    generation: int
    moved: int


@message("refuse")
class Refuse(Struct):
    """This agent takes no part, and why; it ends.

    Attributes:
        moved: as in `welcome`.
    """

    reason: Annotated[str, WireKey("refuse")]
    moved: int = 0


# Another word would not be understood by agents of the first typed version, whose journal is asked for, too.
@message("salvage")
class AskForCopy(Struct):
    """A coordinator that begins elsewhere asks for the copy of the journal; the agent joins again afterwards."""

    salvage: Literal[True] = True


@message("start", nested=True)
class StartWorkers(Struct):
    """Begin a generation.

    Attributes:
        ranks: this node's, in the order of their local ranks.
        group_rank: the node's own.
        master: where rank 0 has its store.
        addresses: by node, where those that are there talk to the others.
        first_ranks: the lowest rank of each node that takes part, by name.
    """

    generation: Annotated[int, WireKey("g")]
    ranks: list[int]
    group_rank: int
    nodes: int
    world_size: int
    backend: str
    master: MasterAddress
    addresses: Annotated[dict[str, str], OMITTED] = field(default_factory=dict)
    first_ranks: Annotated[dict[str, int], OMITTED] = field(default_factory=dict)


@message("stop", nested=True)
class StopWorkers(Struct):
    """End the workers of a generation.

    Attributes:
        grace: seconds until those that are left are killed.
        how: ``term``: by SIGTERM; ``save``: by the wish to save, where a worker understands it; ``kill``: at once.
    """

    generation: Annotated[int, WireKey("g")]
    grace: float
    how: str


@message("pause", nested=True)
class PauseWorkers(Struct):
    """Whether the workers of a generation are to save and leave."""

    generation: Annotated[int, WireKey("g")]
    on: bool


@message("stacks", nested=True)
class AskStacks(Struct):
    """The question of what the workers of a generation do.

    Attributes:
        children: also the processes that they have forked, which takes a moment more.
    """

    generation: Annotated[int, WireKey("g")]
    children: Annotated[bool, OMITTED] = False


@message("end", nested=True)
class RunEnded(Struct):
    """The run is over."""

    outcome: str


@message("journal")
class JournalPiece(Struct):
    """Events for the node's copy of the journal."""

    events: Annotated[list[Document], WireKey("journal")]


@message("beat")
class BeatHeard(Struct):
    """The answer to a beat."""

    heard: Annotated[Literal[True], WireKey("beat")] = True


@message("ack", nested=True)
class Acknowledge(Struct):
    """A rank's output or metrics are known up to an offset, or a node's measurements.

    Attributes:
        generation: of measurements the number of their file, whose rank is -1; so it is in `later` and in `welcome`.
    """

    kind: Literal["output", "metrics", "measured"]
    generation: Annotated[int, WireKey("g")]
    rank: Annotated[int, WireKey("r")]
    offset: Annotated[int, WireKey("o")]


@message("later", nested=True)
class SendLater(Struct):
    """The coordinator's disk is full: what follows the last acknowledged offset is to come again, after a while."""

    kind: Literal["output", "metrics", "measured"]
    generation: Annotated[int, WireKey("g")]
    rank: Annotated[int, WireKey("r")]


class CommandOrder(Struct):
    """A command beside a node's workers; as in the client's `exec`."""

    argv: list[str]
    tty: Annotated[bool, OMITTED] = False
    rows: Annotated[int | None, OMITTED] = None
    columns: Annotated[int | None, OMITTED] = None
    rank: Annotated[int | None, OMITTED] = None


class PathOrder(Struct):
    """A path on a node, relative to its working directory, or to its data directory."""

    path: str


class ListOrder(Struct):
    """What to list: as in the client's `list`."""

    path: str
    recursive: Annotated[bool, OMITTED] = False


class SnapshotsOrder(Struct):
    """What to do with a node's snapshots; as in the client's `snapshots`.

    Attributes:
        directory: the run's own, by which its memory is found.
    """

    do: Literal["list", "verify", "read", "remove"]
    directory: str
    tier: Annotated[str, OMITTED] = ""
    file: Annotated[str, OMITTED] = ""
    keys: Annotated[list[SnapshotKey] | None, OMITTED] = None


@message("exec")
class NodeExec(Struct):
    """Run a command. As with everything that is asked of a node, `id` is in the answers."""

    order: Annotated[CommandOrder, WireKey("exec")]
    number: Annotated[int, WireKey("id")]


@message("fetch")
class NodeFetch(Struct):
    """Send a file or a directory."""

    order: Annotated[PathOrder, WireKey("fetch")]
    number: Annotated[int, WireKey("id")]


@message("list")
class NodeList(Struct):
    """List a directory."""

    order: Annotated[ListOrder, WireKey("list")]
    number: Annotated[int, WireKey("id")]


@message("snapshots")
class NodeSnapshots(Struct):
    """List, verify, read or remove snapshots."""

    order: Annotated[SnapshotsOrder, WireKey("snapshots")]
    number: Annotated[int, WireKey("id")]


class ProfileOrder(Struct):
    """What to record; as in the client's `profile`."""

    rank: int
    steps: int
    shapes: Annotated[bool, OMITTED] = False
    memory: Annotated[bool, OMITTED] = False
    within: float = 60.0


@message("profile")
class NodeProfile(Struct):
    """Record steps of a rank, and send the trace."""

    order: Annotated[ProfileOrder, WireKey("profile")]
    number: Annotated[int, WireKey("id")]


@message("input")
class NodeInput(Struct):
    """What a person types for a command that runs."""

    typed: Annotated[TerminalInput, WireKey("input")]
    number: Annotated[int, WireKey("id")]


@message("more")
class NodeMore(Struct):
    """One more piece of a request's answer has been taken."""

    number: Annotated[int, WireKey("more")]


@message("cancel")
class NodeCancel(Struct):
    """Nobody waits for a request's answer any more."""

    number: Annotated[int, WireKey("cancel")]


ToAgent = Union[  # noqa: UP007 - a union of messages is an argument of types
    Welcome,
    Refuse,
    AskForCopy,
    StartWorkers,
    StopWorkers,
    PauseWorkers,
    AskStacks,
    RunEnded,
    JournalPiece,
    BeatHeard,
    Acknowledge,
    SendLater,
    NodeExec,
    NodeFetch,
    NodeList,
    NodeSnapshots,
    NodeProfile,
    NodeInput,
    NodeMore,
    NodeCancel,
    AskShared,
    BringShared,
]
TO_AGENT: Family[ToAgent] = Family("a message of the coordinator", *get_args(ToAgent))
