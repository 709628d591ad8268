"""Faults on purpose: which there are, when each is due, and plans of them. Pure.

`control.chaos.execution` carries them out.

    plan = random_plan(seed=7, every=20, length=900, kinds=place.mix)
    schedule = FaultSchedule(plan)
    schedule.due(elapsed=41.0, step=120)    # what to do now

Everything random is drawn from the plan's seed, the place of the fault in the plan and how often it came before, so
a plan that is repeated hits the same ranks and nodes, as long as the same ones are there.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from swarmtrain.job.units import format_duration, format_size

RANDOM = "random"
LEAVE = 1 << 20  # bytes that a full disk has left, where the plan does not say
LIMIT = 10_000_000_000  # bytes of ballast, the most that is written unless the plan says more
SECONDS = 10.0  # how long a fault lasts, where the plan does not say

T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Args:
        target: what it happens to: ``rank``, ``node``, or nothing that is named.
        words: the sentence for it, with ``{target}`` in it.
        end: the sentence when it is undone; empty for what cannot be.
        lasts: whether it is undone after a time; a power cut lasts only where a time is given.
        keys: what else a plan may say of it.
    """

    target: str
    words: str
    end: str = ""
    lasts: bool = False
    keys: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "kill-worker": Kind("rank", "rank {target} gets SIGKILL"),
    "stop-worker": Kind("rank", "rank {target} gets SIGSTOP", "rank {target} goes on", lasts=True),
    "kill-container": Kind("node", "everything of the run on {target} is killed at once"),
    "kill-coordinator": Kind("", "the coordinator is killed"),
    "freeze": Kind("node", "{target} freezes", "{target} goes on", lasts=True),
    "unplug": Kind("node", "{target} is unplugged", "{target} is plugged in", lasts=True),
    "power-off": Kind("node", "{target} loses its power", "{target} has power again"),
    "power-on": Kind("node", "{target} is powered on"),
    "fill-disk": Kind(
        "node", "the disk of {target} is full", "the ballast on {target} is gone", True, ("leave", "limit")
    ),
    "slow-link": Kind(
        "node", "the link of {target} is slow", "the link of {target} is as before", True, ("rate",)
    ),
    "corrupt-snapshot": Kind("node", "the newest snapshot on {target} is damaged"),
}


# What random plans do: how long each lasts, in seconds from and to. A full disk and a dead coordinator are for people
# who ask for them, since not every place gets over them.
MIX: Mapping[str, tuple[float, float]] = {
    "kill-worker": (0, 0),
    "stop-worker": (1, 10),
    "kill-container": (0, 0),
    "kill-coordinator": (0, 0),
    "freeze": (1, 10),
    "unplug": (1, 10),
    "power-off": (5, 20),
    "fill-disk": (5, 20),
    "slow-link": (5, 20),
    "corrupt-snapshot": (0, 0),
}
_RATES = ("20mbit", "100mbit", "500mbit")


@dataclass(frozen=True)
class Fault:
    """One fault of a plan.

    Args:
        kind: one of `KINDS`.
        target: a rank or a node's name as text, or ``random``; empty where the kind has none.
        step: due when the run has reached this step.
        after: due after so many seconds.
        every: due again and again, so many seconds apart; the first time ``after``, or after as long.
        seconds: undone after so long; None for what is not undone.
        leave: bytes that a full disk has left. limit: bytes of ballast at most.
        rate: of a slow link, as tc writes it: ``200mbit``.
    """

    kind: str
    target: str = RANDOM
    step: int | None = None
    after: float | None = None
    every: float | None = None
    seconds: float | None = None
    leave: int = LEAVE
    limit: int = LIMIT
    rate: str = ""

    def __post_init__(self) -> None:
        assert self.kind in KINDS, f"{self.kind} is no kind of fault"

    def when(self) -> str:
        """``at step 120``, ``at 30s``, ``every 20s``; ``at once`` where nothing is said."""
        if self.every is not None:
            first = "" if self.after in (None, self.every) else f"at {format_duration(self.after or 0)} and "
            return f"{first}every {format_duration(self.every)}"
        if self.step is not None:
            return f"at step {self.step}"
        return f"at {format_duration(self.after)}" if self.after else "at once"

    def sentence(self, target: str = "") -> str:
        """What happens, for people: ``lab-2 freezes for 10s``."""
        text = KINDS[self.kind].words.format(target=target or _any(self))
        if self.kind == "fill-disk":
            text += f" but for {format_size(self.leave)}"
        if self.rate:
            text += f" ({self.rate})"
        return text + (f" for {format_duration(self.seconds)}" if self.seconds is not None else "")

    def ending(self, target: str) -> str:
        """What happens when it is undone."""
        return KINDS[self.kind].end.format(target=target)

    def entry(self) -> dict[str, object]:
        """As a plan file has it."""
        found: dict[str, object] = {}
        if self.every is not None:
            found["every"] = format_duration(self.every)
        if self.step is not None:
            found["at"] = f"step {self.step}"
        elif self.after is not None:
            found["at"] = format_duration(self.after)
        found["do"] = self.kind
        if kind := KINDS[self.kind].target:
            found[kind] = int(self.target) if kind == "rank" and self.target.isdecimal() else self.target
        if self.seconds is not None:
            found["for"] = format_duration(self.seconds)
        if self.kind == "fill-disk":
            found |= {"leave": format_size(self.leave), "limit": format_size(self.limit)}
        return found | ({"rate": self.rate} if self.rate else {})


@dataclass(frozen=True)
class FaultPlan:
    """Faults, the seed of what is random in them, and after how many seconds the plan is over."""

    faults: tuple[Fault, ...] = ()
    seed: int = 0
    length: float | None = None  # None: when everything is done; with ``every``: when the run has ended

    def document(self) -> dict[str, object]:
        """As a plan file has it."""
        length = {} if self.length is None else {"for": format_duration(self.length)}
        return {"seed": self.seed, **length, "faults": [fault.entry() for fault in self.faults]}

    def text(self) -> str:
        """A plan file that says the same."""
        lines = [f"{key}: {value}" for key, value in self.document().items() if key != "faults"]
        lines += ["faults:"] if self.faults else ["faults: []"]
        for fault in self.faults:
            lines.append("  - {" + ", ".join(f"{key}: {value}" for key, value in fault.entry().items()) + "}")
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True)
class Occurrence:
    """One time that a fault is due. ``draw`` from 0 to 1 decides what is random about it."""

    index: int
    count: int
    fault: Fault
    draw: float


@dataclass
class FaultSchedule:
    """Says what of a plan is due, each thing once. What a repeated fault has missed does not come in a heap."""

    plan: FaultPlan
    # how often each fault came, by its place in the plan
    _counts: dict[int, int] = field(default_factory=dict)
    _next: dict[int, float] = field(default_factory=dict)  # when a repeated fault is due again
    _over: bool = False

    def due(self, elapsed: float, step: int | None) -> list[Occurrence]:
        """What is due now, in the order of the plan.

        Args:
            elapsed: seconds since the plan began. step: the newest that the run has reported.
        """
        self._over = self.plan.length is not None and elapsed > self.plan.length
        found = (
            [] if self._over else [i for i in range(len(self.plan.faults)) if self._is_due(i, elapsed, step)]
        )
        return [self._take(index, elapsed) for index in found]

    def waiting(self) -> list[Fault]:
        """What is still to come; empty when the plan is done or its time is over."""
        if self._over:
            return []
        return [
            each for i, each in enumerate(self.plan.faults) if each.every is not None or i not in self._counts
        ]

    def missed(self) -> list[Fault]:
        """What never came."""
        return [each for index, each in enumerate(self.plan.faults) if index not in self._counts]

    def _is_due(self, index: int, elapsed: float, step: int | None) -> bool:
        fault = self.plan.faults[index]
        if fault.every is None and index in self._counts:
            return False
        if fault.every is not None:
            first = fault.every if fault.after is None else fault.after
            return elapsed >= self._next.get(index, first)
        if fault.step is not None:
            return step is not None and step >= fault.step
        return elapsed >= (fault.after or 0.0)

    def _take(self, index: int, elapsed: float) -> Occurrence:
        fault = self.plan.faults[index]
        count = self._counts[index] = self._counts.get(index, 0) + 1
        if fault.every is not None:
            first = fault.every if fault.after is None else fault.after
            self._next[index] = first + fault.every * (1 + (elapsed - first) // fault.every)
        draw = random.Random(f"{self.plan.seed}/{index}/{count}").random()
        return Occurrence(index, count, fault, draw)


def choose(draw: float, among: Sequence[T]) -> T:
    """The one that a number from 0 to 1 means."""
    return among[min(int(draw * len(among)), len(among) - 1)]


def random_plan(seed: int, every: float, length: float, kinds: Sequence[str]) -> FaultPlan:
    """A mixed plan that is the same for the same arguments.

    Args:
        every: seconds between two faults. length: seconds in all.
        kinds: what to draw from, each as likely; those of `MIX`.
    """
    assert every > 0 and kinds and set(kinds) <= set(MIX), f"cannot draw from {kinds}"
    source = random.Random(seed)
    faults = []
    for number in range(1, int(length / every) + 1):
        kind = source.choice(sorted(kinds))
        least, most = MIX[kind]
        seconds = round(source.uniform(least, most), 1) if most else None
        rate = source.choice(_RATES) if kind == "slow-link" else ""
        target = RANDOM if KINDS[kind].target else ""
        faults.append(Fault(kind, target, after=round(number * every, 3), seconds=seconds, rate=rate))
    return FaultPlan(tuple(faults), seed)


def _any(fault: Fault) -> str:
    if fault.target != RANDOM:
        return fault.target
    return "any" if KINDS[fault.kind].target == "rank" else "a node"
