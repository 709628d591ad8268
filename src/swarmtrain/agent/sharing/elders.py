"""What was written before tells of what is new: half of it may be there, however quiet that is.

A script that writes `checkpoint-3/model.pt` may compute for long before it writes `optimizer.pt`. That there is to be
one, `checkpoint-2/` tells; of `last/model.pt`, which is written over, the version of `last/` before. Not for ever: the
script may write fewer files now.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from swarmtrain.agent.sharing.leftovers import QUIET
from swarmtrain.agent.sharing.sets import Sets
from swarmtrain.files.record import path_of
from swarmtrain.files.siblings import are_siblings, lacks, one_of_each
from swarmtrain.protocol.shared_files import SetVersion, SharedFile

WAIT = 60.0  # seconds for which such a set is quiet until it is taken as it is


class Elders:
    """Those of the sets of one node, after a look."""

    def __init__(self, sets: Sets) -> None:
        self._sets, self._record = sets, sets.record

    def waited_for(self, path: str, *, at_rest: bool = False) -> SetVersion | None:
        """As `SetReport` has it, what a set is waited for to be like; None where it is as it is to be.

        It is also where the script shows that: all workers have ended well, or there is a younger sibling.

        Args:
            at_rest: no worker is left, and how long ago that was tells nothing.
        """
        moved = [name for name in self._sets.moved(path) if not self._sets.is_stream(path_of(path, name))]
        new = [name for name in moved if name in self._sets.files(path)]
        if not (path and new) or self._record.ended_well:
            return None
        written = [self._sets.touched(path, name) for name in new]
        if not at_rest and time.time() - max(written) > WAIT:
            return None
        known = self._record.sets.get(path)
        if known is not None and known.newest is not None and known.newest.files:
            together = self._wanted(_together(known.newest, new))
            return replace(known.newest, files=[]) if lacks(moved, together) else None
        elder = self._elder(path, min(written))
        if elder is None or self._has_gone_on(path, max(written)):
            return None
        wanted = self._wanted(elder.files)
        return replace(elder, files=wanted) if lacks(new, wanted) else None

    def _elder(self, path: str, begun: float) -> SetVersion | None:
        """The newest of the siblings that were finished before a set was begun.

        Those that other ranks write meanwhile, as `rank-1/` is beside `rank-0/`, need not have the same files.
        """
        found = [
            (max((file.fence, file.mtime) for file in known.newest.files), known.newest)
            for other, known in self._record.sets.items()
            if known.newest is not None and known.newest.files and are_siblings(other, path)
        ]
        before = [
            (when, version)
            for when, version in found
            if (when[0], when[1] + QUIET) < (self._record.fence, begun)
        ]
        return max(before, key=lambda each: each[0])[1] if before else None

    def _has_gone_on(self, path: str, ended: float) -> bool:
        """Whether its writer has begun the next since."""
        return any(
            min(stamp.changed for stamp in stamps.values()) / 1e9 > ended
            for other, stamps in self._sets.here.items()
            if stamps and are_siblings(other, path)
        )

    def _wanted(self, files: Sequence[SharedFile]) -> list[SharedFile]:
        """Of what was written before, what is to be written now; by other nodes than then, it may be more or fewer."""
        is_same = all(file.fence >= self._record.same_since for file in files)
        return list(files) if is_same else one_of_each(files)


def _together(version: SetVersion, new: Collection[str]) -> list[SharedFile]:
    """What of a version was written with something that is written over now: by the same rank, after that.

    Args:
        new: the names of what is written over, and others.
    """
    begun: dict[int, float] = {}  # by rank
    for file in version.files:
        if file.name in new:
            begun[file.rank] = min(file.mtime, begun.get(file.rank, math.inf))
    return [file for file in version.files if file.mtime >= begun.get(file.rank, math.inf)]
