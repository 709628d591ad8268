"""What was written before tells of what is new: half of it may be there, however quiet that is.

A script that writes `checkpoint-3/model.pt` may compute for long before it writes `optimizer.pt`. That there is to be
one, `checkpoint-2/` tells; of `last/model.pt`, which is written over, the version of `last/` before. Not for ever: the
script may write fewer files now, and directories of one series may be none of checkpoints, as `fold-3/` is not.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from swarmtrain.agent.sharing.leftovers import QUIET
from swarmtrain.agent.sharing.sets import Sets
from swarmtrain.agent.sharing.unrest import Unrest
from swarmtrain.files.record import path_of
from swarmtrain.files.siblings import are_siblings, has_number, is_written_over, lacks, one_of_each
from swarmtrain.protocol.shared_files import SetVersion, SharedFile
from swarmtrain.wire.clock import Clock

WAIT = 60.0  # seconds for which such a set is quiet until it is taken as it is
SOON = 10.0  # the same of one that is written over, and a few times as long as that took the last time
TOGETHER = 300.0  # seconds after which one rank writes the next file of what belongs together, or less
_SAME = 1e-3  # seconds in which times of one file differ that is as it was


class _Half(NamedTuple):
    """What a set is waited for to be like, the files of that, and the seconds of quiet until it is taken as it is."""

    before: SetVersion
    wanted: list[SharedFile]
    wait: float


class Elders:
    """Those of the sets of one node, after a look."""

    def __init__(self, sets: Sets, unrest: Unrest, clock: Clock) -> None:
        self._sets, self._record, self._unrest, self._clock = sets, sets.record, unrest, clock
        self._since: dict[str, float] = {}  # when sets were first waited for, by the monotonic clock
        self._halves: dict[str, dict[str, float]] = {}  # when the files of such a set were written, at first
        self._taken = set[str]()  # sets that are waited for no more

    def is_over_again(self, path: str, half: Collection[SharedFile]) -> bool:
        """Whether half of a set was written, and then all of that again: there is no other one, from now on.

        That some of it was, as a `state.json` is every second, says nothing of what is to come once.
        """
        now = {file.name: file.mtime for file in half}
        first = self._halves.get(path)
        if first is None or first.keys() != now.keys():
            self._halves[path] = now
        elif now and all(first[name] != when for name, when in now.items()):
            self._taken.add(path)
        return path in self._taken

    def remembered(self) -> set[str]:
        """The sets of which it is known that they were waited for, or are not any more."""
        return {*self._since, *self._halves, *self._taken}

    def forget(self, path: str) -> None:
        """What is written of a set from now on is waited for anew."""
        self._since.pop(path, None)
        self._halves.pop(path, None)
        self._taken.discard(path)

    def waited_for(self, path: str, *, at_rest: bool = False) -> SetVersion | None:
        """As `SetReport` has it, what a set is waited for to be like; None where it is as it is to be.

        It is also where the script shows that: all workers have ended well, or there is a younger sibling.

        Args:
            at_rest: no worker is left, and how long ago that was tells nothing.
        """
        moved = [name for name in self._sets.moved(path) if not self._sets.is_stream(path_of(path, name))]
        new = [name for name in moved if name in self._sets.files(path)]
        if not (path and new) or path in self._taken or self._record.ended_well:
            return None
        written = [self._sets.touched(path, name) for name in new]
        quiet = -math.inf if at_rest else self._clock.unix() - max(written)
        if quiet > WAIT:
            return None
        known = self._record.sets.get(path)
        if known is not None and known.newest is not None and known.newest.files:
            half = self._half_over(known.newest, moved, new)
        else:
            half = self._half_in_series(path, new, written)
        if half is None or quiet > half.wait or (not at_rest and self._is_overdue(path, half.wanted)):
            return None
        return half.before

    def _half_over(self, newest: SetVersion, moved: Collection[str], new: Collection[str]) -> _Half | None:
        """Of what is written over in its place, what had been written together."""
        over = [file for file in newest.files if is_written_over(file.name, new)]
        wanted = self._wanted(newest.path, _together(over, new))
        if not lacks({*moved, *self._again(newest)}, wanted):
            return None
        return _Half(replace(newest, files=[]), wanted, min(WAIT, SOON + 3 * _took(wanted)))

    def _half_in_series(self, path: str, new: Collection[str], written: Collection[float]) -> _Half | None:
        """Of one of a series, what the one before it has."""
        elder = self._elder(path, min(written))
        if elder is None:
            return None
        wanted = self._wanted(elder.path, _together(elder.files))
        if not has_number(path):  # it may grow, as `version_1/checkpoints/` does
            wanted = one_of_each(wanted)
        if not lacks(new, wanted) or self._has_gone_on(path, elder.path, max(written)):
            return None
        return _Half(replace(elder, files=wanted), wanted, WAIT)

    def _is_overdue(self, path: str, wanted: Iterable[SharedFile]) -> bool:
        """Whether a set is waited for long enough, though something is written there now and then."""
        now = self._clock.monotonic()
        return now - self._since.setdefault(path, now) > WAIT + min(TOGETHER, 3 * _took(wanted))

    def _elder(self, path: str, begun: float) -> SetVersion | None:
        """The newest of the siblings that were finished before a set was begun.

        Those that other ranks write meanwhile, as `rank-1/` is beside `rank-0/`, need not have the same files.
        """
        siblings = [
            replace(
                known.newest, files=[file for file in known.newest.files if self._is_saved(other, file.name)]
            )
            for other, known in self._record.sets.items()
            if known.newest is not None and are_siblings(other, path)
        ]
        found = [
            (max((file.fence, file.mtime) for file in each.files), each) for each in siblings if each.files
        ]
        before = [
            (when, version)
            for when, version in found
            if (when[0], when[1] + QUIET) < (self._record.fence, begun)
        ]
        return max(before, key=lambda each: each[0])[1] if before else None

    def _is_saved(self, path: str, name: str) -> bool:
        """Whether a file was written as its checkpoint was, and not all the time until the next one."""
        return not self._sets.is_stream(path_of(path, name)) and not self._unrest.was_restless(path, name)

    def _has_gone_on(self, path: str, elder: str, ended: float) -> bool:
        """Whether its writer has begun the next since, which is a sibling of the one before, too."""
        return any(
            min(stamp.changed for stamp in stamps.values()) / 1e9 > ended
            for other, stamps in self._sets.here.items()
            if stamps and are_siblings(other, path) and are_siblings(other, elder)
        )

    def _wanted(self, path: str, files: Iterable[SharedFile]) -> list[SharedFile]:
        """Of what was written there before, what is to be written now: no streams, which versions have by chance.

        By other nodes than then, it may be more or fewer.
        """
        lasting = [file for file in files if not self._sets.is_stream(path_of(path, file.name))]
        is_same = all(file.fence >= self._record.same_since for file in lasting)
        return lasting if is_same else one_of_each(lasting)

    def _again(self, version: SetVersion) -> list[str]:
        """The names of what was written again as it was in a version."""
        here = self._sets.files(version.path)
        return [
            file.name
            for file in version.files
            if file.name in here and here[file.name].changed / 1e9 > file.mtime + _SAME
        ]


def _together(files: Sequence[SharedFile], new: Collection[str] | None = None) -> list[SharedFile]:
    """What each rank wrote together: of what was written long apart, the larger part by its bytes.

    What was copied with its old times is of another part, as is what was added later.

    Args:
        new: the names of what is written over now, and others: it was the first.
    """
    found = list[SharedFile]()
    for rank in {file.rank for file in files}:
        its = sorted((file for file in files if file.rank == rank), key=lambda file: file.mtime)
        begun = next((at for at, file in enumerate(its) if new is None or file.name in new), len(its))
        parts: list[list[SharedFile]] = [[]]
        for file in its[begun:]:
            if parts[-1] and file.mtime - parts[-1][-1].mtime > TOGETHER:
                parts.append([])
            parts[-1].append(file)
        found += max(parts, key=lambda part: sum(file.size for file in part))
    return found


def _took(files: Iterable[SharedFile]) -> float:
    """Seconds from the first of some files to the last, of the rank that took longest: ranks' clocks differ."""
    times: dict[int, list[float]] = {}
    for file in files:
        times.setdefault(file.rank, []).append(file.mtime)
    return max((max(each) - min(each) for each in times.values()), default=0.0)
