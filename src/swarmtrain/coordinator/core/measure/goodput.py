"""Goodput: how much of a run's time went into steps that counted, and where the rest went. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from swarmtrain.coordinator.core.incident_log import Summary
from swarmtrain.protocol.schema import Struct
from swarmtrain.protocol.status import Goodput


class TimeTold(Struct):
    """What rank 0 has told of its time, in seconds, in all generations together.

    Attributes:
        steps: that it has made, also those that were made again.
        stepping: in these, evaluations and other known phases left out.
        data: of that: it waited for samples.
        first: Unix time at which the first step ended; None before.
    """

    steps: int = 0
    stepping: float = 0.0
    data: float = 0.0
    evaluation: float = 0.0
    snapshot: float = 0.0
    first: float | None = None

    def and_line(self, line: Mapping[str, object]) -> TimeTold:
        """With what one line of it tells."""
        kind, seconds = line.get("kind"), _seconds(line.get("seconds"))
        if kind == "step":
            step, steps = _seconds(line.get("step_s")), line.get("steps")
            count = steps if isinstance(steps, int) and steps > 0 else 1
            data = min(_seconds(line.get("data_s")), step)
            ended = _seconds(line.get("first", line.get("when", line.get("at"))))
            return replace(
                self,
                steps=self.steps + count,
                stepping=self.stepping + step * count,
                data=self.data + data * count,
                first=ended if self.first is None else min(self.first, ended),
            )
        if kind == "phase" and line.get("name") == "evaluation":
            return replace(self, evaluation=self.evaluation + seconds)
        if kind == "phase" and line.get("name") == "snapshot":
            return replace(self, snapshot=self.snapshot + seconds)
        return self


def goodput(created: float, until: float, past: Summary, told: TimeTold) -> Goodput:
    """Where the time of a run went.

    Args:
        created, until: Unix times of its submission, and of its end or now.
        past: what befell it.
        told: by rank 0; of a script that nothing is known of, nothing.
    """
    total = max(0.0, until - created)
    start = total if told.first is None else min(total, max(0.0, told.first - created))
    usual = told.stepping / told.steps if told.steps else 0.0
    lost = min(past.lost_steps * usual, told.stepping)
    data = min(told.data, told.stepping - lost)
    parts = {
        "steps": told.stepping - lost - data,
        "start": start,
        "lost": lost,
        "recovering": min(past.lost_seconds, total),
        "evaluation": told.evaluation,
        "snapshot": told.snapshot,
        "data": data,
    }
    rest = total - sum(parts.values())
    return Goodput(
        total=round(total, 3), other=round(max(0.0, rest), 3), **{k: round(v, 3) for k, v in parts.items()}
    )


def _seconds(value: object) -> float:
    return (
        float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else 0.0
    )
