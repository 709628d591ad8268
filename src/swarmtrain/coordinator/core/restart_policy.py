"""Whether a failed generation is tried again, when, and without whom: the restart policy as a pure function.

:func:`judge` looks at how the generations of a run have ended so far. Cheap things are tried first: the same nodes
again at once. Two kinds of failure are never tried for ever: the same error at the same step on a fresh start, which
no restart will mend, and too many failures within a window of time. Time heals the second: what lies before the
window is forgotten. Times are seconds on one clock, any clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarmtrain.protocol.facts import Attempt
from swarmtrain.protocol.schema import Struct
from swarmtrain.wire.plural import plural

EARLY_SECONDS = 60.0  # a program of unknown steps that fails sooner has not begun its work
# seconds before a restart, by failures without progress
_BACKOFF = (0.0, 0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_CULPRIT = 3  # failures on one node within the window after which it is left out
_LEFT_OUT = (60.0, 300.0, 900.0)  # seconds for which it is: at the third failure, the fourth, ...
_PROGRAM = ("exception", "exit", "memory")  # what a program does to itself; the rest may be chance


class RestartPolicy(Struct):
    """What the job says about restarts. Durations in seconds."""

    enabled: bool = True
    limit: int = 10  # failures within the window that are healed
    window: float = 3600.0


class Again(Struct):
    """Try again, not before a moment."""

    not_before: float = 0.0


class GiveUp(Struct):
    """Do not: the run fails. The reason is empty where the failure itself says all."""

    reason: str = ""


def judge(history: Sequence[Attempt], policy: RestartPolicy, now: float) -> Again | GiveUp:
    """What follows from the last of these failed attempts, oldest first; at least one."""
    last = history[-1]
    if not policy.enabled:
        return GiveUp()
    if last.kind in ("start", "placement"):
        return GiveUp()
    if last.kind in _PROGRAM and not _has_worked(history):
        return GiveUp()
    if reason := _deterministic(history):
        return GiveUp(reason)
    recent = _recent(history, policy, now)
    if len(recent) > policy.limit:
        times = plural(len(recent), "once", f"{len(recent)} times")
        worst = max(
            sorted({a.node for a in recent if a.node}), key=lambda n: _failures_on(n, recent), default=""
        )
        where = f", {_failures_on(worst, recent)} of them on {worst}" if worst else ""
        return GiveUp(
            f"it failed {times} within {_minutes(policy.window)}{where}; the limit is {policy.limit}"
        )
    return Again(last.ended + _delay(history))


def left_out(history: Sequence[Attempt], policy: RestartPolicy, now: float) -> dict[str, str]:
    """Nodes on which the failures of late began again and again, and why they are left out for now."""
    recent = _recent(history, policy, now)
    found = {}
    for node in sorted({attempt.node for attempt in recent if attempt.node}):
        mine = [attempt for attempt in recent if attempt.node == node]
        if len(mine) < _CULPRIT or 2 * len(mine) <= len(recent):
            continue
        rest = _LEFT_OUT[min(len(mine) - _CULPRIT, len(_LEFT_OUT) - 1)]
        if now < mine[-1].ended + rest:
            found[node] = f"{len(mine)} of the last {len(recent)} failures began on {node}"
    return found


def _recent(history: Sequence[Attempt], policy: RestartPolicy, now: float) -> list[Attempt]:
    return [attempt for attempt in history if attempt.ended > now - policy.window]


def _has_worked(history: Sequence[Attempt]) -> bool:
    """Whether any attempt came so far that a failure of the program is worth a second try."""
    return any(attempt.progressed or attempt.seconds >= EARLY_SECONDS for attempt in history)


def _deterministic(history: Sequence[Attempt]) -> str:
    """Why another attempt would end as the last one did; empty when it may not."""
    last = history[-1]
    same = 1
    for attempt, later in zip(reversed(history[:-1]), reversed(history), strict=False):
        if later.step is None and later.has_gone_on:
            break  # it went on from where the one before had failed
        if (attempt.kind, attempt.signature, attempt.step) != (last.kind, last.signature, last.step):
            break
        if last.kind not in _PROGRAM and attempt.rank != last.rank:
            break
        same += 1
    # A program that raises the same at the same step does so by itself; a signal may hit twice by chance, and where
    # steps are unknown equal words may have unequal causes.
    enough = 2 if last.kind in _PROGRAM and last.step is not None else 3
    if same < enough or last.kind == "node":
        return ""
    where = f"at step {last.step}" if last.step is not None else "in the same way"
    return f"it failed {where} {same} times in a row, each time on a fresh start; another would end so, too"


def _delay(history: Sequence[Attempt]) -> float:
    """Seconds to wait: longer the more attempts in a row made no step, so that nothing spins."""
    idle = 0
    for attempt in reversed(history):
        if attempt.has_gone_on or (attempt.step is None and attempt.seconds >= EARLY_SECONDS):
            break
        idle += 1
    return _BACKOFF[min(idle, len(_BACKOFF) - 1)]


def _failures_on(node: str, attempts: Sequence[Attempt]) -> int:
    return sum(attempt.node == node for attempt in attempts)


def _minutes(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
