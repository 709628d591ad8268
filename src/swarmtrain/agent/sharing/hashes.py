"""The SHA-256 of files in a working directory: a file is read once, and known again by its stamp."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from swarmtrain.agent.sharing.walk import read_content
from swarmtrain.files.record import FileStamp, Record, directory_of, path_of, stamp_of

_PIECE = 1 << 20
# Of the clocks that file systems stamp files by: within one, a file may be written twice and have one stamp.
_TICK = 20_000_000  # nanoseconds


class Unsteady(Exception):
    """A file has changed while it was read.

    Outside of the tree: the tracker looks closer, or says that its set is being written.
    """


class Hashes:
    """Those of one working directory.

    Args:
        record: has those of files that were noted, also before this agent.
    """

    def __init__(self, work: Path, record: Record) -> None:
        self._work, self._record = work, record
        self._read: dict[str, tuple[FileStamp, str]] = {}

    def of(self, path: str, stamp: FileStamp) -> str:
        """That of a file, which is read where it is not known by this stamp. Raises OSError, Unsteady."""
        read = self._read.get(path)
        if read is not None and read[0] == stamp:
            return read[1]
        known = self._record.sets.get(directory_of(path))
        noted = known.in_place.get(path.rpartition("/")[2]) if known is not None else None
        if noted is not None and noted.stamp == stamp:
            return noted.sha256
        if 0 <= time.time_ns() - stamp.changed < _TICK:
            time.sleep(_TICK / 1e9)
        digest = hashlib.sha256()
        with read_content(self._work / path) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
        if stamp_of(self._work / path) != stamp:
            raise Unsteady(path)
        self._read[path] = (stamp, digest.hexdigest())
        return digest.hexdigest()

    def read_last(self, path: str) -> tuple[FileStamp | None, str]:
        """By what stamp a file was read last, and what it was; None and nothing where it never was."""
        return self._read.get(path, (None, ""))

    def remembered(self) -> set[str]:
        """The paths of files that were read."""
        return set(self._read)

    def forget(self, path: str) -> None:
        """A file has gone for good."""
        self._read.pop(path, None)

    def find(self, sha256: str) -> Path | None:
        """A file that has a content, and is still as it was then."""
        for path, stamp in self._with(sha256):
            if stamp_of(self._work / path) == stamp:
                return self._work / path
        return None

    def _with(self, sha256: str) -> list[tuple[str, FileStamp]]:
        # Of copies: peers ask while a thread looks.
        found = [(path, stamp) for path, (stamp, digest) in list(self._read.items()) if digest == sha256]
        for directory, known in list(self._record.sets.items()):
            found += [
                (path_of(directory, name), each.stamp)
                for name, each in list(known.in_place.items())
                if each.sha256 == sha256
            ]
        return found
