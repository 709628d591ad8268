"""What becomes of a group that makes no steps although all of its members are there: decisions as pure functions.

Asked by decide.py. Steps are a sign of life, and there are others (agent/worker_group/signs.py): a rank that tests by
itself while the others wait for it is healthy. So a group hangs when none of its ranks shows any, and even then nothing
is thrown away for a suspicion where there are no snapshots to go on from.
"""

from __future__ import annotations

from swarmtrain.coordinator.core.model import (
    Advance,
    Candidate,
    CaptureStacks,
    Decision,
    Hang,
    Policy,
    View,
    Wait,
)
from swarmtrain.coordinator.core.stopping import stop

_IN_TOUCH = 2.0  # seconds since its last word in which a member is certainly there: four beats
_HANG_SECONDS = 60.0
_HANG_SECONDS_UNTOLD = 300.0
_LOOK_SECONDS = 30.0
_LAST_LOOK = 10.0  # seconds before the end
_HANG_STEPS = 20
_STEADY = 5  # steps of a generation from which on standing still means something


def auto_hang(usual: float, reports_phases: bool) -> float:
    """Seconds without a step, and without any other sign of life, after which a group hangs.

    Args:
        usual: seconds of a step.
        reports_phases: whether the script says when it evaluates or saves. Others may do so for a while, unseen.
    """
    return max(_HANG_SECONDS if reports_phases else _HANG_SECONDS_UNTOLD, _HANG_STEPS * usual)


def watch_steps(view: View, policy: Policy, now: float) -> Decision:
    """Whether the group stands still although all of its members are there."""
    advance = view.advance
    if not policy.hang_watched or advance.busy or advance.stepped is None or advance.usual is None:
        return Wait()
    if advance.steps < _STEADY or view.pausing_until is not None:
        return Wait()
    if not all(in_touch(member, now) for member in at_work(view)):
        return Wait()  # steps may be made, and nobody tells of them
    limit = auto_hang(advance.usual, advance.reports_phases) if policy.hang is None else policy.hang
    end = _quiet_since(advance, policy) + limit
    sure = policy.hang is not None or view.saves or view.halted  # else all would be lost for a suspicion
    if sure and now >= end:
        return Hang(limit)
    first = advance.stepped + min(limit / 2, max(_LOOK_SECONDS, _HANG_STEPS / 2 * advance.usual))
    # What was seen long ago says little of why they stand still now; and who works on is told of, too.
    last = max(first, end - _LAST_LOOK if sure else end)
    looks = sorted((first, advance.stepped + limit, last))
    due = next((moment for moment in looks if view.captured is None or view.captured < moment), None)
    if due is None or (sure and due >= end):
        return Wait(end if sure else None)
    return CaptureStacks() if now >= due else Wait(due)


def _quiet_since(advance: Advance, policy: Policy) -> float:
    """The last sign of life, of which steps are one; the only one that counts where a person has set the limit."""
    stepped = advance.stepped or 0.0
    return stepped if policy.hang is not None else max(stepped, advance.lived or 0.0)


def watch_the_end(view: View, policy: Policy, now: float) -> Decision:
    """Whether processes whose scripts have ended do not end themselves, and do nothing any more."""
    if view.left is None or not policy.hang_watched:
        return Wait()
    end = max(view.left, _quiet_since(view.advance, policy)) + (policy.hang or _HANG_SECONDS_UNTOLD)
    return stop(view, policy) if now >= end else Wait(end)


def members_of(view: View) -> list[Candidate]:
    """Members of the current generation."""
    return [member for member in view.members if member.node in view.taking_part]


def at_work(view: View) -> list[Candidate]:
    """Members of the current generation that have workers left."""
    return [member for member in members_of(view) if not member.idle]


def in_touch(member: Candidate, now: float) -> bool:
    """Whether a member's agent was heard lately."""
    return member.gone is None and now < member.heard + _IN_TOUCH
