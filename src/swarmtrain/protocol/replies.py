"""What clients are answered."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from swarmtrain.protocol.alerts.answer import AlertAnswer
from swarmtrain.protocol.evidence.diagnosis import Diagnosis
from swarmtrain.protocol.evidence.profile import ProfileNews
from swarmtrain.protocol.evidence.seen import RankStacks
from swarmtrain.protocol.schema import INLINE, OMITTED, Document, Struct
from swarmtrain.protocol.series.points import Series
from swarmtrain.protocol.snapshots import Snapshot
from swarmtrain.protocol.status import Status


class Line(NamedTuple):
    """One line of one rank.

    Attributes:
        time: Unix time at which the coordinator had all of it.
        text: without its newline; surrogates stand for bytes that are not UTF-8.
    """

    time: float
    generation: int
    rank: int
    node: str
    text: str


class ErrorReply(Struct):
    """A request is refused, or cannot be answered.

    Attributes:
        exit: the exit code of its kind: see `errors`.
        gone: the node's agent went away.
    """

    error: str
    hint: str = ""
    exit: int = 3
    gone: Annotated[bool, OMITTED] = False


class Done(Struct):
    """This was the last reply.

    Attributes:
        after: metrics, that have been told so far.
        exit: of a command.
        bytes, sha256: of a file.
    """

    after: Annotated[int | None, OMITTED] = None
    exit: Annotated[int | None, OMITTED] = None
    bytes: Annotated[int | None, OMITTED] = None
    sha256: Annotated[str, OMITTED] = ""


class RunReply(Struct):
    """What a coordinator answers by itself: some of these at a time.

    Attributes:
        event: of the journal: number, time, kind and sentence, and what its kind needs (`protocol/journal/events.py`).
        lines: of the workers' output.
        unfinished: the lines that go on, in place of those that were told before.
        caught_up: all lines have come that were there when they were asked for; said once.
        stacks: of the ranks of one node.
        diagnosis: what is wrong with it.
        reader_key: of who may only read (`wire/channel.py`).
        metrics: as the workers wrote them, with ``g`` (generation), ``r`` (rank), ``n`` (node) and ``at`` (Unix time).
    """

    status: Annotated[Status | None, OMITTED] = None
    diagnosis: Annotated[Diagnosis | None, OMITTED] = None
    event: Annotated[Document | None, OMITTED] = None
    lines: Annotated[list[Line] | None, OMITTED] = None
    unfinished: Annotated[list[Line] | None, OMITTED] = None
    metrics: Annotated[list[Document] | None, OMITTED] = None
    stacks: Annotated[list[RankStacks] | None, OMITTED] = None
    series: Annotated[Series | None, OMITTED] = None
    alert_answer: Annotated[AlertAnswer | None, OMITTED] = None
    reader_key: Annotated[str, OMITTED] = ""
    caught_up: Annotated[bool, OMITTED] = False
    error: Annotated[ErrorReply | None, INLINE] = None
    done: Annotated[Done | None, OMITTED] = None


class FileHeader(Struct):
    """What comes.

    Attributes:
        size: bytes.
    """

    name: str
    directory: bool
    size: int
    node: str


class DirectoryEntry(Struct):
    """What lies in a directory, or the directory itself.

    Attributes:
        path: below the one that was asked for, which is ``.`` itself.
        mtime: Unix time.
        link: where it leads, if it is a link.
        sha256: of its content, where that is known.
        at: where this node has it, if that is not in its place: it keeps a copy of another node's file.
    """

    node: str
    path: str
    bytes: int
    directory: bool
    mtime: float
    link: Annotated[str, OMITTED] = ""
    sha256: Annotated[str, OMITTED] = ""
    at: Annotated[str, OMITTED] = ""


class NodeReply(Struct):
    """What a node answers: one of these at a time.

    Attributes:
        nodes: which there are to ask.
        data, stdout, stderr: bytes in base 64.
        taken: bytes of the input that a command, or the room before it, has taken: so much more may be sent.
        profile: how far one is; once it is written, its trace follows as a file.
        reach: a node whose agent has ended, and to whose files the launcher must open a way first.
    """

    nodes: Annotated[list[str] | None, OMITTED] = None
    file: Annotated[FileHeader | None, OMITTED] = None
    data: Annotated[str, OMITTED] = ""
    entries: Annotated[list[DirectoryEntry] | None, OMITTED] = None
    snapshots: Annotated[list[Snapshot] | None, OMITTED] = None
    profile: Annotated[ProfileNews | None, OMITTED] = None
    stdout: Annotated[str, OMITTED] = ""
    stderr: Annotated[str, OMITTED] = ""
    taken: Annotated[int, OMITTED] = 0
    reach: Annotated[str, OMITTED] = ""
    error: Annotated[ErrorReply | None, INLINE] = None
    done: Annotated[Done | None, OMITTED] = None
