"""The stacks of all ranks, laid together: what is at the same place is one group, the odd one first. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from swarmtrain.diagnosis.frames import SourceLine
from swarmtrain.protocol.evidence.seen import StackFrame, StackGroup, StackReport

# faulthandler's format, Python 3.10 to 3.14; since 3.14 with the name of the thread.
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):$")
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)$')
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
    *others, main = threads(report.stack) or [()]
    if main:
        yield _MAIN, main
    for frames in others:
        if frames and not any(_LISTENS in frame.file for frame in frames):
            yield _THREADS, frames
    for dump in report.children.values():
        if found := threads(dump):
            yield _PROCESS, _own(found[-1])


def _own(frames: tuple[StackFrame, ...]) -> tuple[StackFrame, ...]:
    """Of a forked process: the frames since the fork."""
    for index, frame in enumerate(frames):
        if frame.function == "_bootstrap" and _FORKED.search(frame.file):
            return frames[: index + 1]
    return frames


def threads(dump: str) -> list[tuple[StackFrame, ...]]:
    """The frames of each thread in a dump, innermost first; that of the main thread is the last."""
    found: list[list[StackFrame]] = []
    for line in dump.splitlines():
        if _THREAD.match(line):
            found.append([])
        elif found and (match := _FRAME.match(line)):
            number = int(match["line"]) if match["line"].isdigit() else 0
            source = SourceLine(_WORK.sub("", match["file"]), number, match["function"])
            found[-1].append(StackFrame(source.file, source.line, source.function, source.is_users))
    return [tuple(frames) for frames in found]
