"""Events that are worth a word, and change nothing."""

from __future__ import annotations

from typing import Annotated, ClassVar

from swarmtrain.protocol.journal.event import Event
from swarmtrain.protocol.schema import OMITTED


class Remark(Event, kw_only=True):
    """What changes nothing.

    Attributes:
        rank, node: whom it is about, where it is about one.
    """

    rank: Annotated[int | None, OMITTED] = None
    node: Annotated[str, OMITTED] = ""


class NodeLeaving(Remark):
    """An agent is told to go: by Swarm, by `docker service scale`, by a drained node."""

    kind: ClassVar[str] = "leaving"


class ClockApart(Remark, kw_only=True):
    """The clock of a node's machine is not the run's. The run itself counts by its own, whatever clocks say.

    Attributes:
        ahead: seconds by which it is ahead; negative where it is behind.
    """

    kind: ClassVar[str] = "clock"
    ahead: Annotated[float, OMITTED] = 0.0


class NodeLeftOut(Remark):
    """A node on which failures began again and again is left out where others will do."""

    kind: ClassVar[str] = "left_out"


class StragglerSeen(Remark):
    """A rank slows the others down."""

    kind: ClassVar[str] = "straggler"


class StallSeen(Event, kw_only=True):
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


class FilesShared(Remark):
    """What becomes of files that workers write: what is not shared, where nodes differ, what was set aside."""

    kind: ClassVar[str] = "shared"


class FilesBrought(Remark):
    """Files that one node's workers have written are in place on another."""

    kind: ClassVar[str] = "brought"


class SpawnerRestarted(Remark):
    """The process that starts a node's workers has died, and is started again."""

    kind: ClassVar[str] = "spawner"


class InitWoken(Remark):
    """The process that keeps a node's agent was stopped, and was told to go on."""

    kind: ClassVar[str] = "keeper"


class StartsWarm(Remark):
    """A node's workers are forked from a process that has imported torch."""

    kind: ClassVar[str] = "warm"


class StartsCold(Remark):
    """A worker, or all of a node's, are started anew, and why."""

    kind: ClassVar[str] = "cold"


class LineDamaged(Event):
    """In the place of an event that the disk has damaged."""

    kind: ClassVar[str] = "damaged"
