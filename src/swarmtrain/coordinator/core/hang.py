"""Who it is that a training waits for, and who slows it down, as pure functions of what the ranks tell.

In data-parallel training every rank waits for every other, so when one stands still all of them do, and the one that
is at fault is the one that does *not* wait. Evidence is taken in the order of what it proves: a process that does not
run; a rank that is behind in its steps or between them; a stack that is not in a collective while the others' are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from swarmtrain.coordinator.core.stack_dumps import MainThread, place
from swarmtrain.protocol.schema import Struct
from swarmtrain.wire.plural import counted
from swarmtrain.wire.pulse import Activity

_SAYS = {
    Activity.START: "has not made a step yet",
    Activity.RESUME: "is resuming from a snapshot",
    Activity.COMPILE: "is compiling",
    Activity.EVALUATION: "is evaluating",
    Activity.SNAPSHOT: "is saving a snapshot",
    Activity.AFTER_FIT: "has come to the end of fit",
    Activity.ENDING: "has left its last line of code",
}
_MISMATCH = "not all ranks call the same collectives"
_ENOUGH_STEPS = 20
_SLOW = 1.5  # times the others' median
_SHARE = 0.2  # of the time of a step


class Rank(Struct):
    """One rank of a group that makes no steps, as its node sees it.

    Attributes:
        step, mark, activity: of its pulse.
        stopped: whether its process is stopped or frozen; None: not known.
        stack: the dump of its stacks; empty without one.
    """

    rank: int
    step: int
    mark: int
    activity: int = 0
    stopped: bool | None = None
    stack: str = ""


class Verdict(Struct):
    """Who is at fault.

    Attributes:
        ranks: the culprits; empty where nobody can be named.
        reason: one sentence.
        extract: where the first of them is: "train.py:57 in train"; empty where that is not known.
    """

    ranks: tuple[int, ...]
    reason: str
    extract: str = ""


class Straggler(Struct):
    """A rank whose own work takes ``factor`` times as long as that of the others."""

    rank: int
    factor: float
    reason: str


def culprit(group: Sequence[Rank]) -> Verdict:
    """Name whom the others wait for.

    Args:
        group: all ranks that are still there, of which none makes a step.
    """
    places = {each.rank: place(each.stack) for each in group}
    if stopped := [each for each in group if each.stopped]:
        why = "does not run: its process is stopped (SIGSTOP, a debugger) or frozen"
        return _verdict(stopped, why, places)
    for behind in (
        _behind(group, [each.step for each in group]),
        _behind(group, [each.mark for each in group]),
    ):
        if behind:
            return _of_those_behind(group, behind, places)
    working = [each for each in group if (at := places[each.rank]) is not None and not at.waits]
    waiting = [each for each in group if (at := places[each.rank]) is not None and at.waits]
    if working and waiting:
        return _verdict(working, f"{_is_at(working, places)}, {_others(waiting, places)}", places)
    return _nobody(group, places)


def straggler(busy: Mapping[int, float], step_seconds: float, steps: int) -> Straggler | None:
    """Name the rank that the others wait for at every step.

    Args:
        busy: by rank, seconds of its own work in one step, the mean of a window.
        step_seconds: of one step in that window.
        steps: how many there were.

    Returns:
        the slowest rank, if its own work takes more than 1.5 times the median of the others, and more than a fifth of
        the step, over at least 20 steps; else None.
    """
    if steps < _ENOUGH_STEPS or len(busy) < 2:
        return None
    from statistics import median  # which a coordinator that starts need not wait for

    slowest = max(busy, key=lambda rank: (busy[rank], -rank))
    own, usual = busy[slowest], median(seconds for rank, seconds in busy.items() if rank != slowest)
    if own <= _SLOW * usual or own <= _SHARE * step_seconds or usual <= 0:
        return None
    factor = own / usual
    reason = (
        f"rank {slowest} takes {_duration(own)} a step for its own work, {factor:.1f} times as long as the others "
        f"({_duration(usual)})"
    )
    return Straggler(slowest, round(factor, 2), reason)


def _behind(group: Sequence[Rank], progress: Sequence[int]) -> list[Rank]:
    """Those that have come the least far, if not all have."""
    least = min(progress, default=0)
    behind = [each for each, far in zip(group, progress, strict=True) if far == least]
    return behind if len(behind) < len(group) else []


def _of_those_behind(
    group: Sequence[Rank], behind: Sequence[Rank], places: Mapping[int, MainThread | None]
) -> Verdict:
    ahead = [each for each in group if each not in behind]
    waits = [at.waits for each in behind if (at := places[each.rank]) is not None]
    if len(waits) == len(behind) and all(waits):
        # Those behind wait as well: somewhere else. The few have left the way of the many, or skipped a meeting.
        few, many = (ahead, behind) if len(ahead) < len(behind) else (behind, ahead)
        return _verdict(few, f"{_is_at(few, places)}, {_others(many, places)}: {_MISMATCH}", places)
    steps, others = behind[0].step, min(each.step for each in ahead)
    if steps < others:
        where = f", and {_is_at(behind, places)}" if places[behind[0].rank] else ""
        return _verdict(behind, f"has made {counted(steps, 'step')}, the others {others}{where}", places)
    if places[behind[0].rank]:
        return _verdict(behind, f"{_is_at(behind, places)}, {_others(ahead, places)}", places)
    return _verdict(behind, f"has not come as far in step {steps + 1} as the others", places)


def _nobody(group: Sequence[Rank], places: Mapping[int, MainThread | None]) -> Verdict:
    """All wait, or nothing is known of some."""
    together: dict[MainThread, list[Rank]] = {}
    for each in group:
        if (at := places[each.rank]) is not None:
            together.setdefault(at, []).append(each)
    if not together:
        return Verdict((), "no rank makes steps, and none tells where it is")
    where, most = max(together.items(), key=lambda item: len(item[1]))
    if len(most) == len(group):
        return Verdict((), f"all ranks {where.of(True)}", _extract(where))
    few = [each for at, ranks in together.items() if at != where for each in ranks]
    if 0 < len(few) < len(most) and all(at.waits for at in together):
        return _verdict(few, f"{_is_at(few, places)}, {_others(most, places)}: {_MISMATCH}", places)
    return Verdict(
        (), "; ".join(f"{_names(ranks)} {at.of(len(ranks) > 1)}" for at, ranks in together.items())
    )


def _verdict(ranks: Sequence[Rank], what: str, places: Mapping[int, MainThread | None]) -> Verdict:
    first = ranks[0]
    says = _SAYS.get(Activity(first.activity)) if first.activity in set(Activity) else None
    reason = f"{_names(ranks)} {what}" + (f" (it {says})" if says else "")
    return Verdict(tuple(each.rank for each in ranks), reason, _extract(places[first.rank]))


def _is_at(ranks: Sequence[Rank], places: Mapping[int, MainThread | None]) -> str:
    at = places[ranks[0].rank]
    return at.of(len(ranks) > 1) if at is not None else "has gone on"


def _others(ranks: Sequence[Rank], places: Mapping[int, MainThread | None]) -> str:
    """``while the others wait in backward (train.py:61 in train)``, as far as it is known."""
    where = next((at for each in ranks if (at := places[each.rank]) is not None), None)
    return f"while the others {'have gone on' if where is None else where.of(True)}"


def _extract(at: MainThread | None) -> str:
    return str(at.user) if at is not None and at.user is not None else ""


def _names(ranks: Collection[Rank]) -> str:
    *first, last = (str(each.rank) for each in ranks)
    return f"ranks {', '.join(first)} and {last}" if first else f"rank {last}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
