"""In which order checkpoints seem to have been written, by the times of the file system: the same on every node.

Scripts go on from the newest by `os.path.getctime`, or by the mtime of a directory. What is put in place has the moment
of that for its ctime, and so have the directories that it is put into, for both. So they are touched in the order in
which their files were written, which all nodes know.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from swarmtrain.files.record import Record, above, directory_of, path_of

_APART = 50  # of the newest in one directory, which differ in their ctimes by a tick of its clock
_TICK = 0.02  # seconds that one takes at most, or else the file system tells no such times apart

# When, by path: the generation's fence, and the time by its writer's clock.
Written = Mapping[str, tuple[int, float]]


def put_in_order(work: Path, record: Record, placed: Collection[str]) -> None:
    """Have the files and directories beside what was put in place seem written in the order in which they were.

    Nothing but their times is changed, and of these no file's mtime. What cannot be touched stays as it is.

    Args:
        record: with all versions that hold.
        placed: the paths of sets that were put in place.
    """
    written = _written(record)
    around = {each for path in placed for each in above(path)}
    for directory in around & written.keys():
        _touch(work / directory, mtime=written[directory][1])
    beside: dict[str, list[str]] = {}
    for path in sorted(written, key=lambda each: (written[each], each)):
        if directory_of(path) in around:
            beside.setdefault(directory_of(path), []).append(path)
    _make_younger(work, [_out_of_order(work, each) for each in beside.values()])


def _written(record: Record) -> Written:
    """When files were written, and the newest of each directory."""
    found: dict[str, tuple[int, float]] = {}
    for path, known in record.sets.items():
        for file in known.newest.files if known.newest is not None else ():
            full = path_of(path, file.name)
            if full not in record.streams:
                for each in (full, *above(path)[1:]):
                    found[each] = max(found.get(each, (0, 0.0)), (file.fence, file.mtime))
    return found


def _out_of_order(work: Path, paths: Sequence[str]) -> list[str]:
    """Of what is beside each other, the oldest first: that from which on one is not younger than those before it."""
    youngest, now = 0, time.time_ns()
    for number, path in enumerate(paths):
        changed = _changed(work / path)
        if changed and (changed <= youngest or changed > now):
            return list(paths[number:])
        youngest = changed or youngest
    return []


def _make_younger(work: Path, series: Sequence[Sequence[str]]) -> None:
    """Touch what lies in several directories, in the order of each; all directories in one go: it takes ticks."""
    before = time.time_ns()
    for left in range(max(map(len, series), default=0), 0, -1):
        after = before if left <= _APART else 0
        before = _touch_after([work / each[-left] for each in series if len(each) >= left], after)


def _touch_after(paths: Sequence[Path], after: int) -> int:
    """Touch until all seem changed after a time, of the file system's clock, for a tick at most; when they do."""
    until = time.monotonic() + _TICK
    for path in paths:
        _touch(path)
        while _changed(path) <= after and time.monotonic() < until:
            time.sleep(_TICK / 20)
            _touch(path)
    return max(map(_changed, paths))


def _touch(path: Path, mtime: float | None = None) -> None:
    """Have it be changed now, with the times that it has, or another mtime."""
    try:
        status = path.lstat()
        its = status.st_mtime_ns if mtime is None else int(mtime * 1e9)
        os.utime(path, ns=(status.st_atime_ns, its), follow_symlinks=False)
    except OSError:
        pass  # it has gone, or is another user's


def _changed(path: Path) -> int:
    """Its ctime in nanoseconds; 0 where there is nothing."""
    try:
        return path.lstat().st_ctime_ns
    except OSError:
        return 0
