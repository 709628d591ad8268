"""What events and the status are made of."""

from __future__ import annotations

from dataclasses import asdict, field
from enum import Enum
from typing import Annotated

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


class Failure(Struct):
    """One thing that went wrong in a generation.

    Attributes:
        kind: ``exception``, ``exit``, ``signal``, ``memory``, ``node``, ``hang``, ``start`` or ``placement``.
        node: where; empty where no node is to blame.
        time: Unix time by the run's clock.
        summary: one line.
        rank: of the worker; null where it befell a whole node.
        traceback: of its exception, or of where it stood.
        code, signal: with which its process ended.
        log: the rank's last lines, where there is no traceback.
        hint: what a person may do about it.
    """

    kind: str
    node: str
    time: float
    summary: str
    rank: int | None = None
    traceback: str = ""
    code: int | None = None
    signal: int | None = None
    log: list[str] = field(default_factory=list)
    hint: str = ""

    def sentence(self) -> str:
        """Where it happened, and what."""
        if not self.node:
            return self.summary
        if self.summary.startswith("was lost"):  # of a whole node
            return f"{self.node} {self.summary}"
        who = self.node if self.rank is None else f"rank {self.rank} on {self.node}"
        return f"{who}: {self.summary}"

    def dump(self) -> dict[str, object]:
        """As it goes into the journal and the status document."""
        return asdict(self)


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
        saved: files that its workers wrote became a version that the next one goes on from.
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
    saved: Annotated[bool, OMITTED] = False

    @property
    def progressed(self) -> bool:
        """Whether it made steps of its own."""
        return self.step is not None and self.step > (self.began or 0)

    @property
    def has_gone_on(self) -> bool:
        """Whether the next one goes on from further than it did: where nobody counts steps, by what it has saved."""
        return self.progressed or (self.step is None and self.saved)
