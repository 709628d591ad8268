"""Who takes part, and what happens next: the decisions of a run as pure functions.

The run keeps the facts, asks :func:`decide` after everything that happens, and carries out the answer
(run/controller.py). Nothing here reads a clock, a socket or a file, so that every case can be a line in a table of
tests. The words are those of model.py.

Progress is the proof of life. Ranks that train together step together, so as long as steps are made every member is
there, whatever became of its connection, and nothing is stopped or restarted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from swarmtrain.coordinator.core.model import (
    Assignment,
    Candidate,
    Decision,
    End,
    Form,
    Formation,
    MarkLost,
    Pause,
    Phase,
    Policy,
    Reform,
    Unpause,
    View,
    Wait,
)
from swarmtrain.coordinator.core.restart_policy import Again, GiveUp, judge, left_out
from swarmtrain.coordinator.core.standstill import at_work, in_touch, members_of, watch_steps, watch_the_end
from swarmtrain.coordinator.core.stopping import stop
from swarmtrain.protocol.facts import Outcome
from swarmtrain.wire.plural import counted, plural

_SAY = 1.0  # seconds in which an agent that has joined says whether it can do its part
_GATHER_MORE = 1.0  # seconds since the last newcomer before the group changes for it


def decide(view: View, policy: Policy, now: float) -> Decision:
    """What to do next. Calling it again with the same facts gives the same answer."""
    if view.phase is Phase.GATHERING:
        return _gather(view, policy, now)
    if view.phase is Phase.RUNNING:
        return _watch(view, policy, now)
    if view.phase is Phase.STOPPING:
        return _settle(view, policy, now)
    return Wait()


def form(members: Iterable[Candidate], policy: Policy, most: int | None = None) -> Formation:
    """Ranks for these members: in the job's order where nodes are named, else by slot with `policy.first` leading.

    Args:
        most: how many members at most; the job's own limit by default.
    """
    order = {name: place for place, name in enumerate(policy.names)}
    chosen = sorted(
        members, key=lambda m: (order.get(m.node, len(order)), m.node != policy.first, m.slot, m.node)
    )[: policy.nodes_max if most is None else most]
    assignments = []
    rank = 0
    for group_rank, member in enumerate(chosen):
        ranks = tuple(range(rank, rank + member.workers))
        assignments.append(Assignment(member.node, group_rank, ranks))
        rank += member.workers
    return Formation(tuple(assignments), chosen[0])


def shortage(members: Sequence[Candidate], policy: Policy) -> str:
    """Who has not come, in words."""
    here = sorted(member.node for member in members)
    if policy.names:
        absent = [name for name in policy.names if name not in here]
        return f"{', '.join(absent)} did not join" if absent else "all joined"
    came = f" ({', '.join(here)})" if here else ""
    return f"{len(here)} of {counted(policy.nodes_min, 'node')} joined{came}"


def _gather(view: View, policy: Policy, now: float) -> Decision:
    if view.stop_asked:
        begun = "while it waited for its nodes" if view.generation else "before the training began"
        owed = min(view.stopping_until, _owed(view, policy, now))
        if view.generation and now < owed:
            return Wait(owed)
        return End(Outcome.STOPPED, f"stopped {begun}")
    if view.failed:  # nothing that trains: it cannot start at all
        return End(Outcome.FAILED)
    ready = _eligible(view, policy, now)
    most = _most(view, policy)
    if now < view.not_before:
        return Wait(view.not_before)
    warm = [member for member in ready if member.warm]
    if view.generation and view.saves and policy.nodes_min <= len(warm) < len(ready):
        ready = warm  # the others are taken in when they can begin at once: nothing is lost by that
    unsure = [member.joined + _SAY for member in ready if not member.warm and now < member.joined + _SAY]
    # who cannot do its part says so at once: a full disk must not cost an attempt
    if view.generation and unsure:
        return Wait(min(unsure))
    if len(ready) >= most:
        return Form(form(ready, policy, most))
    back = [member.gone for member in view.members if member.gone is not None and member.gone > now]
    if view.generation and back:  # agents that a restarted coordinator still waits for
        return Wait(min(back))
    if len(ready) >= policy.nodes_min:
        last_call = max(member.joined for member in ready) + policy.last_call
        if view.generation or now >= last_call:  # a run that has begun takes what is there, and grows later
            return Form(form(ready, policy, most))
        return Wait(last_call)
    settles = [m.settles for m in view.members if m.gone is None and not m.leaving and now < m.settles]
    if settles:
        return Wait(min(settles))
    if now >= view.deadline:
        waited = f" within {policy.node_timeout:.0f} s" if view.generation else ""
        if view.cut_off and not view.generation:
            waited = ": the client that submitted the run went before it had started all of it"
        return End(Outcome.FAILED, shortage(ready, policy) + waited)
    return Wait(view.deadline)


def _watch(view: View, policy: Policy, now: float) -> Decision:
    if view.stop_asked or view.failed:
        return stop(view, policy)
    if view.finished or view.paused:
        if view.finished:
            owed = _owed(view, policy, now)
            return Wait(owed if owed < math.inf else None) if now < owed else End(Outcome.SUCCEEDED)
        return Reform() if _idle(view, policy, now) else Wait()
    leases = _leases(view, policy, now)
    lost = tuple(sorted(node for node, end in leases.items() if now >= end))
    if lost:
        return MarkLost(lost)
    until = list(leases.values())
    for look in (watch_steps, watch_the_end, _watch_members):
        decision = look(view, policy, now)
        if not isinstance(decision, Wait):
            return decision
        if decision.until is not None:
            until.append(decision.until)
    return Wait(min(until, default=None))


def _leases(view: View, policy: Policy, now: float) -> dict[str, float]:
    """When each member that still has work is lost if it stays out of touch.

    Where all of several are out of touch at once, it is rather the coordinator that is cut off.
    """
    advance = view.advance
    stepped = advance.stepped
    ends = {}
    for member in at_work(view):
        # Where no steps were made when it fell silent, their absence says nothing of it.
        stood = stepped is None or stepped + max(policy.lease, 3 * (advance.usual or 0.0)) < member.heard
        blind = stood and member.gone is None
        lease = policy.lease_blind if blind else policy.lease
        if len(view.taking_part) == 1:
            lease = policy.lease_alone
        end = (member.heard if member.gone is None else member.gone) + lease
        if stepped is not None:
            end = max(end, stepped + max(policy.lease, 3 * (advance.usual or 0.0)))
        ends[member.node] = end
    part = members_of(view)
    if len(part) > 1 and policy.restart.enabled and not any(in_touch(member, now) for member in part):
        return {node: end + policy.node_timeout for node, end in ends.items()}
    return ends


def _watch_members(view: View, policy: Policy, now: float) -> Decision:
    """Whether the group should change: members come, go, or are wanted in another number."""
    if view.pausing_until is not None:
        return Unpause() if now >= view.pausing_until else Wait(view.pausing_until)
    part = members_of(view)
    leaving = sorted(member.node for member in part if member.leaving)
    if leaving:
        return Pause(_told_to_leave(leaving)) if _may_change(view, policy) else stop(view, policy)
    if not _may_change(view, policy) or view.advance.stepped is None:
        return Wait()
    most = _most(view, policy)
    fresh = [m for m in _eligible(view, policy, now) if m.node not in view.taking_part and m.warm]
    if len(part) > most:
        why = f"{counted(most, 'node')} {plural(most, 'is', 'are')} wanted, not {len(part)}"
    elif fresh and len(part) < most:
        names = ", ".join(sorted(member.node for member in fresh))
        why = f"{names} {plural(len(fresh), 'has', 'have')} joined"
    else:
        return Wait(min((m.settles for m in view.members if now < m.settles), default=None))
    settled = max([view.no_pause_before, *(member.joined + _GATHER_MORE for member in fresh)])
    return Pause(why) if now >= settled else Wait(settled)


def _settle(view: View, policy: Policy, now: float) -> Decision:
    """The workers are being stopped: what comes when they are."""
    late = now >= view.stopping_until
    owed = min(view.stopping_until, _owed(view, policy, now))
    verdict = judge(view.history, policy.restart, now) if view.failed and view.history else GiveUp()
    if view.left is not None and isinstance(verdict, Again):
        verdict = GiveUp("every rank had left its last line of code, so it is not begun anew")
    if view.left is not None and not view.stop_asked and not view.failed:
        return Wait(owed) if now < owed else End(Outcome.SUCCEEDED)
    if view.stop_asked or (view.failed and isinstance(verdict, GiveUp)):
        if now < owed:
            return Wait(owed)
        if view.stop_asked and not (view.failed and not policy.restart.enabled):
            return End(Outcome.STOPPED, "stopped by a person")
        return End(Outcome.FAILED, verdict.reason if isinstance(verdict, GiveUp) else "")
    if not _idle(view, policy, now) and not late:
        return Wait(view.stopping_until)
    if not policy.restart.enabled:
        leaving = sorted(member.node for member in view.members if member.leaving)
        return End(Outcome.FAILED, f"{_told_to_leave(leaving)}, and restart is never")
    return Reform() if isinstance(verdict, GiveUp) else Reform(verdict.not_before)


def _eligible(view: View, policy: Policy, now: float) -> list[Candidate]:
    """Members that can take part in a next generation. Those that are left out count only where they are needed."""
    able = [
        member
        for member in view.members
        if member.idle
        and member.gone is None
        and not member.leaving
        and now >= member.settles
        and (now < member.heard + policy.lease or not member.heard)
    ]
    able += [
        member
        for member in view.members
        if member.node in view.taking_part and member.gone is None and not member.idle and not member.leaving
        if view.phase is Phase.RUNNING
    ]
    without = left_out(view.history, policy.restart, now)
    trusted = [member for member in able if member.node not in without]
    return trusted if len(trusted) >= policy.nodes_min else able


def _may_change(view: View, policy: Policy) -> bool:
    """Whether the group can change without a loss: every rank saves when it is asked to, and goes on from there."""
    return view.advance.can_pause and policy.restart.enabled


def _told_to_leave(nodes: Sequence[str]) -> str:
    return f"{', '.join(nodes)} {plural(len(nodes), 'was', 'were')} told to leave"


def _most(view: View, policy: Policy) -> int:
    """How many nodes take part when there are enough."""
    if view.wanted is None:
        return policy.nodes_max
    return max(policy.nodes_min, min(view.wanted, policy.nodes_max))


def _idle(view: View, policy: Policy, now: float) -> bool:
    """Whether no worker is left on the members of the current generation that can be asked."""
    return all(
        member.idle
        for member in members_of(view)
        if member.gone is None or member.gone > now
        if now < member.heard + policy.lease or not member.heard
    )


def _owed(view: View, policy: Policy, now: float) -> float:
    """Until when an end waits for what workers wrote and is not here; a time that is past where all is here.

    An agent that was lost is started again where its node still lives, and brings what is on its disk. A member that
    is there is waited for until it has; not for long, where it has no part in the current generation, or where the
    coordinator's disk is full.
    """
    until = [0.0]
    for member in view.members:
        if member.drained:
            continue
        if member.gone is not None:
            until.append(max(member.gone if member.gone > now else 0.0, member.heard + policy.delivery))
        else:
            brings = member.node in view.taking_part and not view.full
            until.append(math.inf if brings else member.joined + policy.delivery)
    return max(until)
