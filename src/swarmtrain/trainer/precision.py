"""The precision of the forward and the backward pass: fp32, bf16, or fp16 with its gradient scaler."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from swarmtrain.trainer.options import PrecisionName

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Runs the parts of a step that depend on precision; called by the trainer's step.

    fp16 gradients underflow, so their loss is scaled up before the backward pass and a step whose gradients
    overflowed is left out. Gradients are reduced before they are looked at, so all ranks leave out the same steps.
    Whether one was left out the GPU knows first. A fused optimizer is told there; any other waits for it in its step.
    """

    def __init__(self, name: PrecisionName, device: torch.device) -> None:
        self._device = device.type
        self._type = _TYPES.get(name)
        self.gradient_norm: torch.Tensor | None = None  # of the last step, where gradients are clipped
        self._scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None

    def autocast(self) -> AbstractContextManager[Any]:
        if self._type is None:
            return nullcontext()
        return torch.autocast(self._device, dtype=self._type)

    def backward(self, loss: torch.Tensor) -> None:
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]

    def update(
        self, optimizer: Optimizer, model: nn.Module, clip_norm: float | None, *, tell: bool = True
    ) -> bool:
        """Clip and apply the gradients; return False where they had overflowed and the weights stay.

        Args:
            tell: the caller wants to know, which in fp16 waits for the GPU; else True is returned.
        """
        if self._scaler is None:
            self._clip(model, clip_norm)
            optimizer.step()
            return True
        if clip_norm is not None:
            self._scaler.unscale_(optimizer)
            self._clip(model, clip_norm)
        before = self._scaler.get_scale() if tell else 0.0
        self._scaler.step(optimizer)
        self._scaler.update()
        return bool(self._scaler.get_scale() >= before) if tell else True

    def _clip(self, model: nn.Module, norm: float | None) -> None:
        if norm is not None:
            self.gradient_norm = nn.utils.clip_grad_norm_(model.parameters(), norm)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self._scaler is not None and state:
            self._scaler.load_state_dict(state)
