"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarmtrain.errors import Stopped, TrainingError
from swarmtrain.protocol.status import Status


def never_started(run: str, job: str, reason: str, created: float) -> Status:
    """The status of a run that failed before there was a coordinator to keep one."""
    return Status(run=run, job=job, state="failed", reason=reason, created=created or None)


def killed(run: str, job: str, reason: str, created: float, ended: float) -> Status:
    """The status of a run that a client killed, and whose coordinator cannot say so itself."""
    return Status(run=run, job=job, state="stopped", reason=reason, created=created or None, ended=ended)


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
    # what of the training is in no snapshot, as none could be written at its end, in a sentence
    unsaved: str = ""
    status: Status = field(repr=False, kw_only=True)

    @staticmethod
    def of(status: Status) -> RunResult:
        """The result in the status document of a run that has ended."""
        return RunResult(
            run=status.run,
            state=status.state,
            reason=status.reason,
            step=status.step,
            loss=status.loss,
            metrics=dict(status.eval or {}),
            seconds=status.ended - status.started if status.started and status.ended else None,
            unsaved=status.unsaved,
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
