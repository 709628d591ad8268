"""What all ranks do, as people read it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from swarmtrain.control.look.stacks import RunStacks
from swarmtrain.control.views.format import name
from swarmtrain.control.views.format import ranks as in_short
from swarmtrain.protocol.evidence.seen import RankStacks, StackFrame, StackGroup
from swarmtrain.wire.plural import counted, plural

_USERS, _LIBRARYS = "> ", "  "


def lines(found: RunStacks, *, whole: bool = False) -> list[str]:
    """Findings, then each group: whose it is, and its frames, innermost first; last what could not be seen.

    Args:
        whole: with every frame of libraries, and threads and processes without a frame of the user's.
    """
    nodes = {each.rank: each.node for each in found.ranks}
    told: list[str] = [finding.text for finding in found.findings]
    shown = [each for each in found.groups if whole or _is_telling(each)]
    for each in shown:
        told += [""] * bool(told) + [_headed(each, nodes), *_frames(each.frames, whole=whole)]
    if left := len(found.groups) - len(shown):
        which = f"{counted(left, 'group')} of threads and processes in libraries alone"
        told += ["", f"({which}: --all shows {plural(left, 'it', 'them')})"]
    unseen = list(_unseen(found.ranks))
    return [*told, *([""] * bool(told and unseen)), *unseen]


def _is_telling(group: StackGroup) -> bool:
    return group.what == "main thread" or any(frame.user for frame in group.frames)


def _headed(group: StackGroup, nodes: Mapping[int, str]) -> str:
    ranks = f"{plural(len(group.ranks), 'rank')} {in_short(group.ranks)}"
    where = f" on {name(nodes.get(group.ranks[0], ''))}" if len(group.ranks) == 1 else ""
    return f"{ranks}{where}: {_what(group)}"


def _what(group: StackGroup) -> str:
    if group.what == "process":
        return counted(group.threads, "process that it has forked", "processes that they have forked")
    if group.what == "thread":
        return counted(group.threads, "other thread")
    return "main thread" if len(group.ranks) == 1 else "main threads"


def _frames(frames: Sequence[StackFrame], *, whole: bool) -> Iterator[str]:
    """Of a library only where a thread is, and how much is left out between the user's own frames."""
    skipped = 0
    for index, frame in enumerate(frames):
        if whole or frame.user or index == 0:
            if skipped:
                yield f"    ({counted(skipped, 'frame')} of libraries)"
                skipped = 0
            where = frame.file if whole else frame.file.rpartition("/")[2]
            yield f"  {_USERS if frame.user else _LIBRARYS}{where}:{frame.line} in {frame.function}"
        else:
            skipped += 1
    if skipped and not any(frame.user for frame in frames):
        yield f"    ({counted(skipped, 'frame')} of libraries)"


def _unseen(ranks: Sequence[RankStacks]) -> Iterator[str]:
    """What is not known, and why."""
    for each in ranks:
        who = f"rank {each.rank} on {name(each.node)}"
        report = each.report
        if report is None:
            yield f"{who}: its node did not answer"
            continue
        if report.halted:
            yield f"{who}: its process is stopped by a signal, so it tells nothing"
        elif not report.stack:
            yield f"{who}: it has no Python stack to tell, or does not answer"
        if report.unseen:
            below = plural(report.unseen, "process below it has", "processes below it have")
            yield f"{who}: {report.unseen} {below} no handler that could be asked (started anew, or no Python)"
        if report.flight is not None and report.flight.reason:
            yield f"{who}: no records of collectives: {report.flight.reason}"
