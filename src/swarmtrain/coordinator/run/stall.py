"""A group that makes no steps although all of its members are there: what its workers do, and who is to blame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from swarmtrain.coordinator.core.hang import Rank, culprit
from swarmtrain.coordinator.run.heartbeats import Heartbeat
from swarmtrain.coordinator.run.ranks import RankState
from swarmtrain.protocol.facts import Failure
from swarmtrain.protocol.from_agent import StackReport

_RECENT = 25.0  # seconds in which an agent has looked for signs of life twice
_WAYS_OUT = "The process group's own timeout ends it, or `hang_timeout`, or `swarmtrain stop`"
PATIENCE = 2.3  # seconds until every worker that can answer has


@dataclass(frozen=True)
class Finding:
    """Whom the others wait for, in words; the rank is None where it cannot be told."""

    text: str
    rank: int | None = None
    node: str = ""
    stack: str = ""

    def failure(self, seconds: float, time: float) -> Failure:
        """The failure of a generation that has stood still for so long.

        Args:
            time: of that, Unix time.
        """
        # the sentence of a failure begins with its rank's name
        what = self.text.replace(f"rank {self.rank} on {self.node} ", "it ", 1)
        text = f"no step for {seconds:.0f} s: {what}"
        return Failure("hang", self.node, time, text, rank=self.rank, traceback=self.stack)


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
        captured: when the workers were last asked for their stacks, in monotonic time; None: not yet.
    """

    captured: float | None = None
    _answers: dict[int, StackReport] = field(default_factory=dict)

    def hear(self, answers: Mapping[int, StackReport]) -> None:
        """What a node's agent found out, by rank."""
        self._answers |= answers

    def halted(self) -> bool:
        """Whether a process is stopped by a signal, and will do nothing by itself."""
        return any(answer.halted for answer in self._answers.values())

    def over(self) -> None:
        """A step was made."""
        self.captured = None
        self._answers.clear()

    def find(self, beats: Mapping[int, Heartbeat], workers: Mapping[int, RankState]) -> Finding:
        """Whom the others wait for, by their pulses and by what they answered."""
        group = [self._rank(rank, beat) for rank, beat in sorted(beats.items())]
        verdict = culprit(group)
        first = verdict.ranks[0] if verdict.ranks else None
        if first is None:
            return Finding(verdict.reason)
        node, reason = workers[first].node, verdict.reason
        if verdict.ranks == (first,):
            reason = reason.replace(f"rank {first} ", f"rank {first} on {node} ", 1)
        answer = self._answers.get(first)
        return Finding(reason, first, node, answer.stack if answer is not None else "")

    def _rank(self, rank: int, beat: Heartbeat) -> Rank:
        answer = self._answers.get(rank)
        stopped, stack = (answer.stopped, answer.stack) if answer is not None else (None, "")
        return Rank(rank, beat.step, beat.mark, int(beat.activity), stopped, stack)
