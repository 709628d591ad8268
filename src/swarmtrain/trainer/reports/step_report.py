"""What the trainer says of a step to the reporter, and the reporter to the progress bar."""

from __future__ import annotations

from typing import NamedTuple

import torch


class StepReport(NamedTuple):
    """One step as this rank saw it.

    Attributes:
        loss_sum: over this rank's samples of the step, a tensor, read only if it is reported.
        own_samples: this rank's, of the step.
        learning_rate: a number, or a tensor that is read only if it is reported.
        seconds: from the end of the last step to the end of this one, data included, known phases left out.
        samples: of all ranks.
        done: the share of the epoch that is done, 0 to 1.
        seen: samples of all ranks since the training began.
        gradient_norm: of all gradients before they were clipped, read only if it is reported; None where they are not.
    """

    step: int
    epoch: int
    loss_sum: torch.Tensor
    own_samples: int
    learning_rate: float | torch.Tensor
    seconds: float
    samples: int
    done: float
    seen: int = 0
    gradient_norm: torch.Tensor | None = None

    @property
    def loss(self) -> float | None:
        """The mean over this rank's samples, if it had any. On a GPU this waits for it."""
        return float(self.loss_sum) / self.own_samples if self.own_samples else None
