"""What the trainer says of a step to the reporter, and the reporter to the progress bar."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class StepReport:
    """One step as this rank saw it.

    Attributes:
        loss: the mean over this rank's samples of the step, a tensor, read only if it is reported; None without any.
        learning_rate: a number, or a tensor that is read only if it is reported.
        seconds: from the end of the last step to the end of this one, data included, known phases left out.
        samples: of all ranks.
        done: the share of the epoch that is done, 0 to 1.
        seen: samples of all ranks since the training began.
        gradient_norm: of all gradients before they were clipped, read only if it is reported; None where they are not.
    """

    step: int
    epoch: int
    loss: torch.Tensor | None
    learning_rate: float | torch.Tensor
    seconds: float
    samples: int
    done: float
    seen: int = 0
    gradient_norm: torch.Tensor | None = None
