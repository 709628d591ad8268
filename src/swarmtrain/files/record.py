"""What a node remembers of its shared files, beside its working directory: record.json.

It outlives the agent and the coordinator: whoever leads the run learns of the versions from those who join.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from swarmtrain.errors import ChannelError
from swarmtrain.protocol.codec import dump, load
from swarmtrain.protocol.shared_files import SetVersion
from swarmtrain.wire.disk.storage import write_whole

MOST_DELETED = 500  # sets that are not there any more, of which it is remembered


class FileStamp(NamedTuple):
    """By what a file that was not touched is known again."""

    size: int
    changed: int  # mtime in nanoseconds
    inode: int


def stamp_of(path: Path) -> FileStamp | None:
    """That of a file; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return FileStamp(status.st_size, status.st_mtime_ns, status.st_ino)


@dataclass
class InPlace:
    """A file of the working directory when the newest version of its set was noted."""

    size: int
    changed: int
    inode: int
    sha256: str

    @property
    def stamp(self) -> FileStamp:
        """By what it is known again."""
        return FileStamp(self.size, self.changed, self.inode)


@dataclass
class KnownSet:
    """What is known of one set.

    Attributes:
        newest: its newest version.
        whole: the newest that is whole here, in place or ready to be put there.
        in_place: its files, by name, when that was noted.
    """

    newest: SetVersion | None = None
    whole: SetVersion | None = None
    in_place: dict[str, InPlace] = field(default_factory=dict)

    def known(self) -> list[SetVersion]:
        """Both versions, the newest first; one where they are one."""
        found = [each for each in (self.newest, self.whole) if each is not None]
        return found[:1] if len(found) == 2 and order(found[0]) == order(found[1]) else found


@dataclass
class Record:
    """All of it.

    Attributes:
        fence: of the last generation that this node has begun.
        first_ranks: the lowest rank of each node that took part in it, by name.
        ranks_since: the fence of the first generation of a row up to that in which a node had this lowest rank.
        same_since: the fence of the first generation of a row up to that with the same nodes and ranks.
        sets: by path.
        finished: stamps of the files of sets as they were when they were last found finished, by path and name.
        streams: files that are written on and on, such as logs.
        ended_well: the workers of that generation here, and so they have written all that they wanted to.
        fresh: nobody has watched before what lies in the working directory. Not written down.
    """

    fence: int = 0
    first_ranks: dict[str, int] = field(default_factory=dict)
    ranks_since: dict[str, int] = field(default_factory=dict)
    same_since: int = 0
    sets: dict[str, KnownSet] = field(default_factory=dict)
    finished: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    streams: list[str] = field(default_factory=list)
    ended_well: bool = False
    fresh: bool = False

    @staticmethod
    def read(path: Path) -> Record:
        """The record of a node; a fresh one where there is none that can be read."""
        try:
            return load(Record, json.loads(path.read_bytes()) | {"fresh": False})
        except (OSError, ValueError, TypeError, ChannelError):
            return Record(fresh=True)

    def write(self, path: Path, *, sync: bool = True) -> None:
        """Keep it. Raises OSError."""
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        write_whole(path, json.dumps(dump(self)).encode(), mode=0o600, sync=sync)

    def begin(self, fence: int, first_ranks: Mapping[str, int]) -> None:
        """Another generation begins, with nodes of these lowest ranks."""
        if self.first_ranks != first_ranks:
            self.same_since = fence
        since = {rank: self.ranks_since.get(node, self.fence) for node, rank in self.first_ranks.items()}
        self.first_ranks = dict(first_ranks)
        self.ranks_since = {node: since.get(rank, fence) for node, rank in first_ranks.items()}
        self.fence, self.fresh, self.ended_well = fence, False, False

    def of(self, path: str) -> KnownSet:
        """What is known of a set."""
        return self.sets.setdefault(path, KnownSet())

    def forget_the_oldest(self) -> None:
        """Of sets that were deleted, only the newest are remembered."""
        gone = [path for path, each in self.sets.items() if each.newest is not None and not each.newest.files]
        gone.sort(key=lambda path: order(self.sets[path].newest))
        for path in gone[:-MOST_DELETED]:
            del self.sets[path]


def order(version: SetVersion | None) -> tuple[int, int]:
    """By what versions of one set are ordered."""
    return (version.fence, version.number) if version is not None else (0, 0)


def directory_of(path: str) -> str:
    """The set of a file."""
    return path.rpartition("/")[0]


def path_of(directory: str, name: str) -> str:
    """The path of a set's file."""
    return f"{directory}/{name}" if directory else name


def above(directory: str) -> list[str]:
    """A directory and all that it lies in, the working directory first."""
    parts = directory.split("/") if directory else []
    return ["", *("/".join(parts[:length]) for length in range(1, len(parts) + 1))]
