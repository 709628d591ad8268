"""The status document: a run as every screen shows it. Times are Unix times by the run's clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

from swarmtrain.protocol import codec
from swarmtrain.protocol.facts import Failure, MasterAddress
from swarmtrain.protocol.schema import OMITTED, Struct, WireKey

ENDED = ("succeeded", "failed", "stopped")


class Worker(Struct):
    """One rank of the current generation.

    Attributes:
        state: ``starting``, ``running``, ``exited`` or ``killed``.
        exit: its end in words; empty before.
        code, signal: with which its process ended.
        left: when it has gone; 0 before.
        paused: it has left with all work saved, as it was asked to.
        ended: its script had left its last line of code.
        step: its newest.
    """

    rank: int
    local_rank: int
    node: str
    state: str
    pid: int | None = None
    exit: str = ""
    code: int | None = None
    step: int | None = None
    signal: int | None = None
    left: float = 0.0
    paused: bool = False
    ended: bool = False


class Member(Struct):
    """One node.

    Attributes:
        state: ``waiting``, ``joined``, ``running``, ``leaving``, ``left``, ``lost`` or ``ended``.
        address, interface, why: where it talks to the others, and why there; missing before its agent has said so.
        workers: how many it can have.
    """

    node: str
    state: str
    address: Annotated[str | None, OMITTED] = None
    interface: Annotated[str | None, OMITTED] = None
    why: Annotated[str | None, OMITTED] = None
    gpus: Annotated[int | None, OMITTED] = None
    workers: Annotated[int | None, OMITTED] = None
    ranks: list[int] = field(default_factory=list)


class Cause(Failure):
    """Why a run failed: the root cause, and what followed from it."""

    others: list[Failure] = field(default_factory=list)


class NodeRange(Struct):
    """How many nodes, or which.

    Attributes:
        wanted: what `resize` asked for.
    """

    least: int
    most: int
    names: list[str] = field(default_factory=list)
    wanted: int | None = None


class Directories(Struct):
    """Where a node works."""

    work: str
    snapshots: str = ""


class SnapshotState(Struct):
    """The newest snapshot that rank 0 has told of.

    Attributes:
        path: on its node.
        seconds: that it took to write.
    """

    step: int | None = None
    epoch: float | None = None
    path: str | None = None
    bytes: int | None = None
    seconds: float | None = None
    node: str | None = None


class Resumed(Struct):
    """The snapshot that the training went on from."""

    step: int | None = None
    epoch: float | None = None
    path: str | None = None


class Recovery(Struct):
    """An incident that the run went on from.

    Attributes:
        time: when it trained again.
        seconds: between the last step before and the first one after.
        planned: the group changed, with all work saved.
    """

    time: Annotated[float, WireKey("t")]
    text: str
    seconds: float
    planned: bool


class Goodput(Struct, kw_only=True):
    """Where a run's time went, in seconds.

    Attributes:
        total: since its submission.
        steps: in steps that counted, without the waiting for data.
        start: until the first step was made.
        lost: in steps that were made again, or are to be.
        recovering: between the last step before a failure, or a change of the group, and the first one after it.
        evaluation, snapshot: in which no steps were made, as the training told.
        data: waiting for samples.
        other: all the rest: what a script does beside its steps.
    """

    total: float
    steps: float
    start: float
    lost: float
    recovering: float
    evaluation: float
    snapshot: float
    data: float
    other: float

    @property
    def ratio(self) -> float:
        """The share of the steps that counted, from 0 to 1."""
        return self.steps / self.total if self.total > 0 else 0.0


class Status(Struct, kw_only=True):
    """A run, now. What nobody knows, or not yet, is null.

    Attributes:
        state: ``starting``, ``running``, ``stopping``, ``succeeded``, ``failed`` or ``stopped``.
        created, started, ended: of the coordinator's first start, of the training's first, of the end.
        generation: the current one; 0 before the first.
        coordinator: the node that it is on; empty where that is this machine.
        cause: why it failed.
        can_pause: whether the script saves and pauses when it is asked to.
        deadline: by which the members must have gathered.
        lineage, lineage_owner: the run in whose directories this one works, and that one's submission.
        directories: by node.
        step, epoch, loss, lr, step_seconds, samples: where rank 0 is, as far as the workers report it.
        eval: the last evaluation.
        weights: by rank, a checksum of what it ended with.
        snapshots_failing: by node, why it writes none.
        unsaved: what of the training is in no snapshot, as none could be written at its end, in a sentence.
        restarts: after failures.
        lost_seconds, lost_steps: by failures and changes of the group.
        healing: what it is recovering from now.
        goodput: where its time went; missing where nothing is known of its steps.
    """

    run: str
    job: str
    target: str = ""
    args: list[str] = field(default_factory=list)
    state: str
    reason: str = ""
    created: float | None = None
    started: float | None = None
    ended: float | None = None
    now: float | None = None
    generation: int = 0
    world_size: int = 0
    master: MasterAddress | None = None
    coordinator: str = ""
    resumed_from: str | None = None
    workers: list[Worker] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    cause: Cause | None = None
    nodes: NodeRange | None = None
    can_pause: Annotated[bool | None, WireKey("cooperative")] = None
    deadline: float | None = None
    lineage: str = ""
    lineage_owner: str = ""
    directories: dict[str, Directories] = field(default_factory=dict)
    step: int | None = None
    epoch: float | None = None
    loss: float | None = None
    lr: float | None = None
    step_seconds: float | None = None
    samples: float | None = None
    eval: Mapping[str, Any] | None = None
    snapshot: SnapshotState | None = None
    resumed: Resumed | None = None
    weights: dict[int, str] | None = None
    snapshots_failing: dict[str, str] = field(default_factory=dict)
    unsaved: str = ""
    restarts: int = 0
    lost_seconds: float = 0.0
    lost_steps: int = 0
    recoveries: list[Recovery] = field(default_factory=list)
    healing: str | None = None
    goodput: Annotated[Goodput | None, OMITTED] = None

    @property
    def has_ended(self) -> bool:
        """Whether the run is over."""
        return self.state in ENDED

    def dump(self) -> dict[str, object]:
        """As JSON, as `swarmtrain status --json` prints it."""
        return codec.dump(self)
