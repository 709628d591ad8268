"""A group that makes no steps although all of its members are there: what its workers do, and who is to blame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
        looked: the workers were asked what they do.
    """

    looked: bool = False
    _answers: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def hear(self, answers: Mapping[str, Mapping[str, Any]]) -> None:
        """What a node's agent found out: by rank, ``stack`` and process ``state``."""
        self._answers |= {int(rank): answer for rank, answer in answers.items()}

    def over(self) -> None:
        """A step was made."""
        self.looked = False
        self._answers.clear()

    def find(self, beats: Mapping[int, Beat], workers: Mapping[int, Worker]) -> Finding:
        """Whom the others wait for."""
        steps = {rank: (beat.step, beat.mark) for rank, beat in beats.items()}
        behind = [rank for rank, at in steps.items() if at == min(steps.values())]
        if steps and len(behind) < len(steps):
            rank = min(behind)
            return Finding(f"all wait for rank {rank} on {workers[rank].node}", rank)
        return Finding("all ranks wait for each other")
