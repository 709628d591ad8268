"""Who takes part, and what happens next: the decisions of a run as pure functions.

The run (run.py) keeps the facts, asks :func:`decide` after everything that happens, and carries out the answer.
Nothing here reads a clock, a socket or a file, so that every case can be a line in a table of tests. Times are
seconds on one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum


class Phase(str, Enum):
    """Where a run is in its life."""

    GATHERING = "gathering"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class Outcome(str, Enum):
    """How a run ends: in exactly one of these."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Policy:
    """What the job says about its members."""

    nodes_min: int
    nodes_max: int
    names: tuple[str, ...] = ()  # in the order of their ranks
    first: str = ""  # the node that gets rank 0 when nodes are counted: the coordinator's own
    last_call: float = 3.0  # seconds a run that could do with fewer waits for one more
    lease: float = 2.0  # seconds in which a member whose connection closed may come back


@dataclass(frozen=True)
class Member:
    """An agent that joined."""

    node: str
    slot: int
    workers: int
    address: str
    port: int  # free on that node a moment ago; for the master
    joined: float
    idle: bool = True  # no worker is left there
    gone: float | None = None  # since when its connection is lost


@dataclass(frozen=True)
class Assignment:
    """One member's part in a generation."""

    node: str
    group_rank: int
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Formation:
    """A generation, before it has a number."""

    assignments: tuple[Assignment, ...]
    master: Member

    @property
    def world_size(self) -> int:
        """All ranks together."""
        return sum(len(assignment.ranks) for assignment in self.assignments)


@dataclass(frozen=True)
class View:
    """The facts that a decision is made on."""

    phase: Phase
    members: tuple[Member, ...]
    deadline: float  # by which the members must have gathered
    stop_asked: bool = False
    failed: bool = False  # something failed that this generation does not survive
    finished: bool = False  # every worker of this generation exited with 0
    taking_part: frozenset[str] = frozenset()  # nodes of the current generation
    stopping_until: float = 0.0  # when members that do not report their workers' end are left out


@dataclass(frozen=True)
class Wait:
    """Nothing to do before ``until``, or before something happens."""

    until: float | None = None


@dataclass(frozen=True)
class Form:
    """Start a generation."""

    formation: Formation


@dataclass(frozen=True)
class Lose:
    """These members have been silent for too long: the generation fails for them."""

    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Stop:
    """Stop the workers of the current generation."""


@dataclass(frozen=True)
class End:
    """The run is over."""

    outcome: Outcome
    reason: str = ""


Decision = Wait | Form | Lose | Stop | End


def decide(view: View, policy: Policy, now: float) -> Decision:
    """What to do next. Calling it again with the same facts gives the same answer."""
    if view.phase is Phase.GATHERING:
        return _gather(view, policy, now)
    if view.phase is Phase.RUNNING:
        return _watch(view, policy, now)
    if view.phase is Phase.STOPPING:
        return _settle(view, now)
    return Wait()


def form(members: Iterable[Member], policy: Policy) -> Formation:
    """Ranks for these members: in the job's order where nodes are named, else by slot with `policy.first` leading."""
    order = {name: place for place, name in enumerate(policy.names)}
    chosen = sorted(
        members, key=lambda m: (order.get(m.node, len(order)), m.node != policy.first, m.slot, m.node)
    )[: policy.nodes_max]
    assignments = []
    rank = 0
    for group_rank, member in enumerate(chosen):
        ranks = tuple(range(rank, rank + member.workers))
        assignments.append(Assignment(member.node, group_rank, ranks))
        rank += member.workers
    return Formation(tuple(assignments), chosen[0])


def missing(members: Sequence[Member], policy: Policy) -> str:
    """Who has not come, in words."""
    here = sorted(member.node for member in members)
    if policy.names:
        absent = [name for name in policy.names if name not in here]
        return f"{', '.join(absent)} did not join" if absent else "all joined"
    came = f" ({', '.join(here)})" if here else ""
    return f"{len(here)} of {policy.nodes_min} nodes joined{came}"


def _gather(view: View, policy: Policy, now: float) -> Decision:
    if view.stop_asked:
        return End(Outcome.STOPPED, "stopped before the training began")
    if view.failed:
        return End(Outcome.FAILED)
    ready = [member for member in view.members if member.idle and member.gone is None]
    if len(ready) >= policy.nodes_max:
        return Form(form(ready, policy))
    if len(ready) >= policy.nodes_min:
        last_call = max(member.joined for member in ready) + policy.last_call
        return Form(form(ready, policy)) if now >= last_call else Wait(last_call)
    if now >= view.deadline:
        return End(Outcome.FAILED, missing(ready, policy))
    return Wait(view.deadline)


def _watch(view: View, policy: Policy, now: float) -> Decision:
    if view.stop_asked or view.failed:
        return Stop()
    leases = {
        member.node: member.gone + policy.lease
        for member in view.members
        if member.node in view.taking_part and member.gone is not None
    }
    lost = tuple(sorted(node for node, end in leases.items() if now >= end))
    if lost:
        return Lose(lost)
    if view.finished and _all_idle(view):
        return End(Outcome.SUCCEEDED)
    return Wait(min(leases.values(), default=None))


def _settle(view: View, now: float) -> Decision:
    if not _all_idle(view) and now < view.stopping_until:
        return Wait(view.stopping_until)
    if view.failed:
        return End(Outcome.FAILED)
    return End(Outcome.STOPPED, "stopped by a person")


def _all_idle(view: View) -> bool:
    """Whether nothing of the current generation runs any more, as far as anybody can tell."""
    waiting = [m for m in view.members if m.node in view.taking_part and not m.idle and m.gone is None]
    return not waiting
