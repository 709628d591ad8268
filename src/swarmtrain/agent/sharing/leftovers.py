"""What lies in a working directory when its writers have gone, in whatever way: which sets are finished.

A set is finished if it was so before, or if the only file that has changed since is whole, by its own format or since
it was renamed to its place.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from swarmtrain.agent.sharing.formats import whole
from swarmtrain.agent.sharing.hashes import Unsteady
from swarmtrain.agent.sharing.sets import Sets
from swarmtrain.files.record import FileStamp, directory_of, path_of
from swarmtrain.protocol.shared_files import SharedFile

QUIET = 2.0  # seconds for which what is finished has been left alone


class Leftovers:
    """The sets of one node, after a look.

    Args:
        opened: paths of the files that were open for writing when that was last looked at.
        ended: Unix time of the writers' end; None where nobody knows it any more.
    """

    def __init__(self, sets: Sets, opened: Collection[str], ended: float | None = None) -> None:
        self._sets, self._record = sets, sets.record
        self._opened, self._ended = opened, ended

    def is_finished(self, path: str, *, deep: bool = True) -> bool:
        """Whether a set is finished.

        Args:
            deep: with the checkpoints that it names.
        """
        here = self._sets.files(path)
        good = {name: each.stamp for name, each in self._sets.noted(path).items()}
        if path in self._record.finished:
            good = {name: FileStamp(*stamp) for name, stamp in self._record.finished[path].items()}
        moved = self._sets.moved(path)
        differing = [name for name in {*moved, *good} if here.get(name) != good.get(name)]
        late = []
        for name in differing:
            full = path_of(path, name)
            if self._sets.is_stream(full):
                if name in here and whole(self._sets.work / full) is False:
                    return False
            elif name in good and name not in moved:
                pass  # it is as it was noted
            elif not self._is_old(path, name):
                late.append(name)
        if len(late) == 1 and late[0] in here and (good or not path):
            told = whole(self._sets.work / path_of(path, late[0]))
            is_whole = told is True or (told is None and self._was_renamed(path, late[0]))
            return is_whole and not (deep and self._names_what_is_not(path, late[0]))
        return not late or self._was_followed(path, late)

    def _was_renamed(self, path: str, name: str) -> bool:
        """Whether a file has taken the place of another one, and nothing was written to it since.

        By its times: a write sets both, a rename one. Within one tick of their clock they do not tell.
        """
        noted = self._sets.noted(path).get(name)
        try:
            status = (self._sets.work / path_of(path, name)).lstat()
        except OSError:
            return False
        is_another = noted is not None and noted.inode != status.st_ino
        return is_another and status.st_size > 0 and status.st_ctime_ns > status.st_mtime_ns

    def _names_what_is_not(self, path: str, name: str) -> bool:
        """Whether a file names a checkpoint that is not finished."""
        stamp = self._sets.files(path)[name]
        try:
            file = SharedFile(name, stamp.size, self._sets.hashes.of(path_of(path, name), stamp), 0.0)
        except (OSError, Unsteady):
            return True
        others = self._sets.names(path, [file]) & self._sets.here.keys()
        return any(not self.is_finished(each, deep=False) for each in others)

    def _was_followed(self, path: str, late: Sequence[str]) -> bool:
        """Whether files are whole by their formats, and their writer had gone on to a directory beside theirs.

        What was put in place there since is older by its mtime, though an agent that died at it has not noted it.
        """
        here = self._sets.files(path)
        if not path or not all(
            name in here and whole(self._sets.work / path_of(path, name)) for name in late
        ):
            return False
        ended = max(self._sets.touched(path, name) for name in here)
        return any(
            min(stamp.changed for stamp in stamps.values()) / 1e9 > ended
            for other, stamps in self._sets.here.items()
            if other != path and stamps and directory_of(other) == directory_of(path) and other
        )

    def _is_old(self, path: str, name: str) -> bool:
        """Whether a file was left alone for a moment before its writers' end, and is not known to be torn."""
        stamp, full = self._sets.files(path).get(name), path_of(path, name)
        if (
            stamp is None
            or self._ended is None
            or full in self._opened
            or self._sets.touched(path, name) > self._ended - QUIET
        ):
            return False
        return whole(self._sets.work / full) is not False
