"""What the workers of a run do at a moment: their stacks, and the last collectives that torch has recorded of them."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from swarmtrain.protocol.schema import OMITTED, Struct


class FlightRecord(Struct):
    """One collective that a rank has begun, from torch's flight recorder.

    Attributes:
        group: of processes, by torch's name for it; ``0`` is the default one.
        seq: its number among those of the group on this rank, from 1.
        op: ``all_reduce``.
        sizes, dtypes: of its inputs, as torch has them: ``Float``.
        done: it is over on this rank.
        p2p: a send or a receive; those are numbered by themselves.
        place: the line of the user's source, ``train.py:41 in step``; empty where none is known.
    """

    group: str
    seq: int
    op: str
    sizes: Annotated[list[list[int]], OMITTED] = field(default_factory=list)
    dtypes: Annotated[list[str], OMITTED] = field(default_factory=list)
    done: Annotated[bool, OMITTED] = False
    p2p: Annotated[bool, OMITTED] = False
    place: Annotated[str, OMITTED] = ""


class FlightReport(Struct):
    """The newest records of a rank, in the order in which it began them.

    Attributes:
        groups: that it is a member of: the ranks of each, by name.
        reason: why there are none; empty where there are.
    """

    records: Annotated[list[FlightRecord], OMITTED] = field(default_factory=list)
    groups: Annotated[dict[str, list[int]], OMITTED] = field(default_factory=dict)
    reason: Annotated[str, OMITTED] = ""


class StackReport(Struct):
    """What a worker does.

    Attributes:
        stack: of all its threads, the main thread last; empty where it does not answer.
        stopped: whether it is stopped or frozen; null when it has gone.
        halted: it is stopped by a signal.
        flight: its last collectives; null where they were not asked for.
        children: the stacks of Python processes that it has forked, such as data-loader workers, by process id.
        unseen: how many processes below it cannot be asked: started anew, or no Python.
    """

    stack: str = ""
    stopped: bool | None = None
    halted: bool = False
    flight: Annotated[FlightReport | None, OMITTED] = None
    children: Annotated[dict[int, str], OMITTED] = field(default_factory=dict)
    unseen: Annotated[int, OMITTED] = 0


class RankStacks(Struct):
    """What one rank does.

    Attributes:
        report: null where its node did not answer.
    """

    rank: int
    node: str
    report: StackReport | None = None


class StackFrame(Struct):
    """One line of a stack.

    Attributes:
        user: it is the user's own code.
    """

    file: str
    line: int
    function: str
    user: bool

    def __str__(self) -> str:
        return f"{self.file.rpartition('/')[2]}:{self.line} in {self.function}"


class StackGroup(Struct):
    """Threads that are at the same place.

    Attributes:
        ranks: whose.
        what: ``main thread``, ``thread``, or ``process``: of one that the worker has forked.
        frames: innermost first.
        threads: how many there are of them.
    """

    ranks: list[int]
    what: str
    frames: list[StackFrame]
    threads: int


class FlightFinding(Struct):
    """What the records of all ranks say together.

    Attributes:
        kind: ``missing``: ranks that the others wait for in a collective; ``mismatch``: ranks that call another one
            than the others; ``circle``: all wait, for each other; ``together``: all are in the same collective;
            ``parted``: ranks that called another one than the others, which came through.
        ranks: to whom it leads; empty where it is nobody.
        text: a sentence.
    """

    kind: str
    ranks: list[int]
    group: str
    seq: int
    op: str
    text: str
