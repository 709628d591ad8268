"""What events and the status are made of; and what both sides say of the files that workers write.

The files that lie directly in one directory of the working directory are a set; `path` is that directory's, empty for
the working directory itself. A version of a set is what its files were at one time, on all nodes together.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal, NamedTuple

from swarmtrain.protocol.schema import OMITTED, Struct, WireKey


class Outcome(str, Enum):
    """How a run ends: in exactly one of these."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


class ClockOrigin(Struct):
    """By what clock a run counts: of which boot of a machine, and the Unix time at which that was 0."""

    boot: str
    epoch: float


class NodePart(Struct):
    """What one node has in a generation.

    Attributes:
        incarnation: of the agent that was asked; another one has no part in it.
        group_rank: the node's own.
    """

    incarnation: str
    ranks: list[int]
    group_rank: int


class MasterAddress(Struct):
    """Where rank 0 has its store."""

    node: str
    address: str
    port: int


class StopOrder(Struct):
    """What a generation's agents are told about stopping.

    Attributes:
        grace: seconds until those that are left are killed.
        how: ``term``, ``save`` or ``kill``, as `agent.worker_group.workers.Workers.stop` takes it.
    """

    generation: Annotated[int, WireKey("g")]
    grace: float
    how: str


class Incident(Struct):
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


class Attempt(Struct):
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


# Where a node has a file: in its place, beside the working directory and ready to be put there, or nowhere.
Place = Literal["work", "store", ""]


class SharedFile(NamedTuple):
    """A file of a set.

    Attributes:
        name: without the directory.
        mtime: Unix time.
        fence, rank: of the generation in which it was written, and the lowest rank of the node that did; for a file of
            a version, as only who makes that knows.
    """

    name: str
    size: int
    sha256: str
    mtime: float
    fence: int = 0
    rank: int = -1


class SetVersion(Struct):
    """A version of a set.

    Attributes:
        fence: of the generation in which it was written; by it, versions are ordered.
        number: orders those of one fence, and all of one set.
        files: none where the set was deleted.
        lost: it has less than the one before, of which no node that is there has all: when one is, that one holds.
    """

    path: str
    fence: int
    number: int
    files: list[SharedFile]
    lost: Annotated[bool, OMITTED] = False


class HeldVersion(Struct):
    """A version of a set that a node knows.

    Attributes:
        places: where this node has each of its files.
    """

    version: SetVersion
    places: list[Place]


class SetReport(Struct):
    """How a set stands on one node.

    Attributes:
        known: its newest version, and the newest that is whole there where that is another one.
        changed: files in place that are in no version yet.
        gone: names of files that were in place when a version was noted, and are not any more.
        extra: names of files that were, and are, and that the newest version does not have.
        writing: what has changed may be half of what is about to be written, or is never to be.
    """

    path: str
    known: list[HeldVersion]
    changed: list[SharedFile]
    gone: list[str]
    extra: list[str]
    writing: bool
