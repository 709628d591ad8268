"""What coordinator and agents say of the files that workers write, in the working directories of all nodes.

The files that lie directly in one directory of the working directory are a set; `path` is that directory's, empty for
the working directory itself. A version of a set is what its files were at one time, on all nodes together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import field, replace
from typing import Annotated, Literal, NamedTuple, TypeVar

from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.schema import OMITTED, Struct, message

MOST_OF_ONE = 1_000  # files in one directory that is shared
LINK = 0o120777  # as the kernel says of a link
LINK_MARK = (
    b"\0-> "  # what a link's content begins with: so it is another one than that of a file with its text
)
# Of sets in one message, or of one set: one of as many files as there may be fits into a frame.
_PART_BYTES = 512 << 10

T = TypeVar("T")


def link_content(text: str) -> bytes:
    """What is shared of a link that leads there."""
    return LINK_MARK + os.fsencode(text)


def link_text(content: bytes) -> str:
    """Where a link leads that has this content."""
    return os.fsdecode(content.removeprefix(LINK_MARK))


# Where a node has a file: in its place, beside the working directory and ready to be put there, or nowhere.
Place = Literal["work", "store", ""]


class SharedFile(NamedTuple):
    """A file of a set.

    Attributes:
        name: without the directory.
        mtime: Unix time.
        fence, rank: of the generation in which it was written, and the lowest rank of the node that did; for a file of
            a version, as only who makes that knows.
        mode: its permissions: what nobody else may read, or what is a program, is so everywhere; `LINK` where it is a
            link, whose content is as `link_content` has it, with where it leads, seen from where it lies.
    """

    name: str
    size: int
    sha256: str
    mtime: float
    fence: int = 0
    rank: int = -1
    mode: int = 0o644


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
        names: paths of other sets, which its files name as the checkpoints to go on from.
    """

    version: SetVersion
    places: list[Place]
    names: Annotated[list[str], OMITTED] = field(default_factory=list)


class SetReport(Struct):
    """How a set stands on one node.

    Attributes:
        known: its newest version, and the newest that is whole there where that is another one.
        changed: files in place that are in no version yet.
        gone: names of files that were in place when a version was noted, and are not any more.
        extra: names of files that were, and are, and that the newest version does not have.
        writing: what has changed may be half of what is about to be written, or is never to be.
        needs: names of files that were written with what has changed, by its format: it is whole with them only, on
            whatever nodes they are.
        index: the name of the one that names the others, and is written when they all are; empty where it is not here.
        names: as in `HeldVersion`, of what has changed.
        elder: the version of a sibling, as of `checkpoint-2` for `checkpoint-3`, with what is to be in this set too, of
            which this node has not all: until others have the rest, it may be half of what is to be written, though it
            is quiet. Or that of the same set, without files, where this node has written over only a part of what it
            had written together.
    """

    path: str
    known: list[HeldVersion]
    changed: list[SharedFile]
    gone: list[str]
    extra: list[str]
    writing: bool
    needs: Annotated[list[str], OMITTED] = field(default_factory=list)
    index: Annotated[str, OMITTED] = ""
    names: Annotated[list[str], OMITTED] = field(default_factory=list)
    elder: Annotated[SetVersion | None, OMITTED] = None


@message("share", nested=True)
class AskShared(Struct):
    """The question of how the files stand that this node's workers have written.

    Attributes:
        number: in the answer.
        paths: of the sets; null for all.
    """

    number: int
    paths: list[str] | None = None


@message("bring", nested=True)
class BringShared(Struct):
    """Versions of sets that hold from now on.

    Attributes:
        number: in the answer.
        how: ``note`` them, and answer nothing; ``store`` them beside the working directory, whose workers are not
            disturbed; ``place`` them there, where none runs.
        sources: where a content is to be had that this node may lack, by its hash.
        more: others follow, which belong to this order.
        urgent: the run waits for it before it ends.
        fence: the least one of the generation that begins next, where nodes know of higher ones than its own; else 0.
    """

    number: int
    how: Literal["note", "store", "place"]
    versions: list[SetVersion]
    sources: dict[str, list[str]]
    more: Annotated[bool, OMITTED] = False
    urgent: Annotated[bool, OMITTED] = False
    fence: Annotated[int, OMITTED] = 0

    def parts(self) -> Iterator[BringShared]:
        """Messages of a bounded size, to be sent in this order."""
        for versions, more in _in_parts(self.versions):
            contents = {file.sha256 for version in versions for file in version.files}
            sources = {sha256: self.sources[sha256] for sha256 in sorted(contents & self.sources.keys())}
            yield replace(self, versions=versions, sources=sources, more=more)

    def joined(self, last: BringShared) -> BringShared:
        """With the part of the same order that followed."""
        versions, sources = [*self.versions, *last.versions], self.sources | last.sources
        return replace(last, versions=versions, sources=sources)


@message("shared", nested=True)
class SharedReport(Struct):
    """How the files stand that this node's workers have written.

    Attributes:
        number: of the question; 0 where nobody has asked.
        address: where this agent's peers have its files from.
        fence: of the last generation that this node has begun.
        first_ranks: the lowest rank of each node that took part in that, by name.
        ranks_since: the fence of the first generation of a row up to that in which a node had this lowest rank.
        sets: those that were asked for, or have come to rest.
        writing: some set of this node may be half of what is to be written: what was deleted for it may be needed.
        clock: Unix time of this machine when this was said, by which times of its files are compared with others'.
        more: others follow, which belong to this report.
    """

    number: int
    address: str
    fence: int
    sets: list[SetReport]
    writing: bool = False
    clock: Annotated[float, OMITTED] = 0.0
    first_ranks: Annotated[dict[str, int], OMITTED] = field(default_factory=dict)
    ranks_since: Annotated[dict[str, int], OMITTED] = field(default_factory=dict)
    more: Annotated[bool, OMITTED] = False

    def parts(self) -> Iterator[SharedReport]:
        """Messages of a bounded size, to be sent in this order."""
        return (replace(self, sets=sets, more=more) for sets, more in _in_parts(self.sets))

    def newest_fence(self) -> int:
        """The highest that this node knows of, by itself or by what is here of others."""
        versions = (held.version.fence for each in self.sets for held in each.known)
        return max([self.fence, *versions])

    def joined(self, last: SharedReport) -> SharedReport:
        """With the part of the same report that followed."""
        return replace(last, sets=[*self.sets, *last.sets])


@message("brought", nested=True)
class SharedBrought(Struct):
    """Versions that this node was to have are there.

    Attributes:
        number: of the order.
        files, size: that came from others; bytes.
        aside: paths of files that were in the way, and lie in `directory` beside the working directory now.
        failed: what could not be brought, in sentences.
        path: of the set, where it is one that was to be beside the working directory.
    """

    number: int
    files: int
    size: int
    seconds: float
    aside: list[str]
    directory: str
    failed: list[str]
    path: Annotated[str, OMITTED] = ""


def _in_parts(sets: Iterable[T]) -> Iterator[tuple[list[T], bool]]:
    """So many of the sets as fit into one message, and whether more follow; none once where there are none."""
    part, filled = list[T](), 0
    for each in sets:
        taken = len(json.dumps(dump(each)))
        if part and filled + taken > _PART_BYTES:
            yield part, True
            part, filled = [], 0
        part.append(each)
        filled += taken
    yield part, False
