"""The stacks of all ranks, laid together: what is at the same place is one group, the odd one first. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from swarmtrain.diagnosis.frames import SourceLine, threads
from swarmtrain.protocol.evidence.seen import StackFrame, StackGroup, StackReport

_LISTENS = "/swarmtrain/worker/instruments/flight.py"  # our own thread, which waits to be asked
_WORK = re.compile(r"^.*/data/[^/]+/[^/]+/work/")  # a node's working directory, where the user's code is
# Frames outside of its _bootstrap are those of the parent.
_FORKED = re.compile(r"/multiprocessing/process\.py$")
_MAIN, _THREADS, _PROCESS = "main thread", "thread", "process"


def group(reports: Mapping[int, StackReport], first: Collection[int] = ()) -> list[StackGroup]:
    """Threads of all ranks by their place: main threads, then other threads, then processes that workers have forked.

    Args:
        first: ranks that are to come first, as their records name them.
    """
    found: dict[tuple[str, tuple[StackFrame, ...]], list[int]] = {}
    for rank, report in sorted(reports.items()):
        for what, frames in _threads(report):
            found.setdefault((what, frames), []).append(rank)
    groups = [
        StackGroup(sorted(set(ranks)), what, list(frames), len(ranks))
        for (what, frames), ranks in found.items()
    ]
    kinds = (_MAIN, _THREADS, _PROCESS)

    def order(each: StackGroup) -> tuple[int, bool, int, int]:
        return (kinds.index(each.what), not set(each.ranks) & set(first), len(each.ranks), each.ranks[0])

    return sorted(groups, key=order)


def _threads(report: StackReport) -> Iterator[tuple[str, tuple[StackFrame, ...]]]:
    *others, main = _shown(report.stack) or [()]
    if main:
        yield _MAIN, main
    for frames in others:
        if frames and not any(_LISTENS in frame.file for frame in frames):
            yield _THREADS, frames
    for dump in report.children.values():
        if found := _shown(dump):
            yield _PROCESS, _own(found[-1])


def _own(frames: tuple[StackFrame, ...]) -> tuple[StackFrame, ...]:
    """Of a forked process: the frames since the fork."""
    for index, frame in enumerate(frames):
        if frame.function == "_bootstrap" and _FORKED.search(frame.file):
            return frames[: index + 1]
    return frames


def _shown(dump: str) -> list[tuple[StackFrame, ...]]:
    """The frames of each thread in a dump, innermost first; that of the main thread is the last."""
    return [tuple(map(_frame, each)) for each in threads(dump)]


def _frame(line: SourceLine) -> StackFrame:
    line = replace(line, file=_WORK.sub("", line.file))
    return StackFrame(line.file, line.line, line.function, line.is_users)
