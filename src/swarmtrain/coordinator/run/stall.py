"""A group that makes no steps although all of its members are there: what its workers do, and who is to blame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from swarmtrain.coordinator.core.hang import Rank, culprit
from swarmtrain.coordinator.run.heartbeats import Heartbeat
from swarmtrain.coordinator.run.ranks import RankState
from swarmtrain.protocol.from_agent import StackReport

_RECENT = 25.0  # seconds in which an agent has looked for signs of life twice
_WAYS_OUT = "The process group's own timeout ends it, or `hang_timeout`, or `swarmtrain stop`"
PATIENCE = 2.3  # seconds until every worker that can answer has


@dataclass(frozen=True)
class Finding:
    """Whom the others wait for, in words; the rank is None where it cannot be told."""

    text: str
    rank: int | None = None
    stack: str = ""


def outlook(
    alive: tuple[float, int, str] | None, now: float, quiet: float, limit: float | None, sure: bool
) -> str:
    """What becomes of a group that makes no steps, as the end of a sentence; empty where the next word says it.

    Args:
        alive: its last sign of life: when, of which rank, and which.
        quiet: seconds since its last step.
        limit: seconds without any sign after which it hangs; None where a person has set for how long no step may be
            made.
        sure: it is begun anew then.
    """
    if limit is None:
        return ""
    if alive is not None and now - alive[0] < _RECENT:
        works = f"; rank {alive[1]} works ({alive[2]})"
        return works if quiet < limit else f"{works}, so it is left alone. {_WAYS_OUT}"
    if quiet < limit or sure:
        return ""
    why = "The script takes no snapshots, so it is not begun anew for that"
    return f"; no rank shows a sign of life. {why}. {_WAYS_OUT}"


@dataclass
class Stall:
    """What is known of one stand-still.

    Attributes:
        looked: when the workers were last asked what they do, in monotonic time; None: not yet.
    """

    looked: float | None = None
    _answers: dict[int, StackReport] = field(default_factory=dict)

    def hear(self, answers: Mapping[int, StackReport]) -> None:
        """What a node's agent found out, by rank."""
        self._answers |= answers

    def halted(self) -> bool:
        """Whether a process is stopped by a signal, and will do nothing by itself."""
        return any(answer.halted for answer in self._answers.values())

    def over(self) -> None:
        """A step was made."""
        self.looked = None
        self._answers.clear()

    def find(self, beats: Mapping[int, Heartbeat], workers: Mapping[int, RankState]) -> Finding:
        """Whom the others wait for, by their pulses and by what they answered."""
        group = [self._rank(rank, beat) for rank, beat in sorted(beats.items())]
        verdict = culprit(group)
        first = verdict.ranks[0] if verdict.ranks else None
        where = (
            f" on {workers[first].node}"
            if first is not None and verdict.ranks == (first,) and first in workers
            else ""
        )
        reason = verdict.reason.replace(f"rank {first} ", f"rank {first}{where} ", 1)
        stack = self._answers[first].stack if first is not None and first in self._answers else ""
        return Finding(reason, first, stack)

    def _rank(self, rank: int, beat: Heartbeat) -> Rank:
        answer = self._answers.get(rank)
        stopped, stack = (answer.stopped, answer.stack) if answer is not None else (None, "")
        return Rank(rank, beat.step, beat.mark, int(beat.activity), stopped, stack)
