"""A group that makes no steps although all of its members are there: what its workers do, and who is to blame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from swarmtrain.coordinator.hang import Rank, culprit
from swarmtrain.coordinator.peers import Worker
from swarmtrain.coordinator.vitals import Beat

PATIENCE = 2.3  # seconds until every worker that can answer has


@dataclass(frozen=True)
class Finding:
    """Whom the others wait for, in words; the rank is None where it cannot be told."""

    text: str
    rank: int | None = None
    stack: str = ""


@dataclass
class Stall:
    """What is known of one stand-still.

    Attributes:
        looked: when the workers were last asked what they do, in monotonic time; None: not yet.
    """

    looked: float | None = None
    _answers: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def hear(self, answers: Mapping[str, Mapping[str, Any]]) -> None:
        """What a node's agent found out: by rank, its ``stack``, and whether it is ``stopped``."""
        self._answers |= {int(rank): answer for rank, answer in answers.items()}

    def over(self) -> None:
        """A step was made."""
        self.looked = None
        self._answers.clear()

    def find(self, beats: Mapping[int, Beat], workers: Mapping[int, Worker]) -> Finding:
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
        stack = str(self._answers.get(first, {}).get("stack", "")) if first is not None else ""
        return Finding(reason, first, stack)

    def _rank(self, rank: int, beat: Beat) -> Rank:
        answer = self._answers.get(rank, {})
        return Rank(
            rank, beat.step, beat.mark, int(beat.activity), answer.get("stopped"), answer.get("stack", "")
        )
