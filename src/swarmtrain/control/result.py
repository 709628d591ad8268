"""What is known of a run: the status document's type, and how a run ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from swarmtrain.errors import Stopped, TrainingError

Status = dict[str, Any]  # the status document, see docs/architecture.md
Event = dict[str, Any]  # {"seq", "t", "kind", "text", ...}

ENDED = ("succeeded", "failed", "stopped")


def stillborn(run: str, job: str, reason: str, created: float) -> Status:
    """The status of a run that failed before there was a coordinator to keep one."""
    return {
        "run": run,
        "job": job,
        "state": "failed",
        "reason": reason,
        "created": created or None,
        "started": None,
        "ended": None,
        "generation": 0,
        "world_size": 0,
        "members": [],
        "workers": [],
        "cause": None,
    }


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    run: str
    state: str  # succeeded, failed or stopped
    reason: str
    step: int | None = None
    loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)  # of the last evaluation
    seconds: float | None = None  # from the first generation to the end
    unsaved: str = (
        ""  # what of the training is in no snapshot, as none could be written at its end, in a sentence
    )
    status: Status = field(default_factory=dict, repr=False)

    @staticmethod
    def of(status: Status) -> RunResult:
        """The result in the status document of a run that has ended."""
        started, ended = status.get("started"), status.get("ended")
        return RunResult(
            run=status["run"],
            state=status["state"],
            reason=status.get("reason") or "",
            step=status.get("step"),
            loss=status.get("loss"),
            metrics=dict(status.get("eval") or {}),
            seconds=ended - started if started and ended else None,
            unsaved=status.get("unsaved") or "",
            status=status,
        )

    @property
    def exit_code(self) -> int:
        """0 succeeded, 1 failed, 4 stopped."""
        return {"succeeded": 0, "stopped": Stopped.exit_code}.get(self.state, TrainingError.exit_code)

    def check(self) -> RunResult:
        """This result, if training succeeded.

        Raises:
            TrainingError: it failed. Stopped: a person stopped it.
        """
        if self.state == "succeeded":
            return self
        kind = Stopped if self.state == "stopped" else TrainingError
        raise kind(f"{self.run} {self.state}: {self.reason}", f"see `swarmtrain logs {self.run}`")
