"""Evaluation on all ranks: every sample once, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from swarmtrain.errors import TrainerError
from swarmtrain.trainer.data import checked_size, inputs_and_targets
from swarmtrain.trainer.distributed import World, total
from swarmtrain.trainer.precision import Precision
from swarmtrain.trainer.seeding import undisturbed
from swarmtrain.wire.plural import counted

# Of a batch: what the model said and what is true, to a value for each sample, or to the mean over them.
Measure = Callable[[Any, Any], torch.Tensor]


class Evaluator:
    """Measures a model on a dataset that it deals out to the ranks, without repeating samples to make it even."""

    def __init__(
        self,
        dataset: Dataset[Any],
        measures: Mapping[str, Measure],
        *,
        world: World,
        precision: Precision,
        batch_size: int,
        workers: int = 0,
    ) -> None:
        self._world = world
        self._measures = measures
        self._precision = precision
        mine = list(range(checked_size(dataset, "evaluation")))[world.rank :: world.size]
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=[mine[i : i + batch_size] for i in range(0, len(mine), batch_size)],
            num_workers=workers,
            pin_memory=world.device.type == "cuda",
            generator=torch.Generator(),
        )

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Every measure's mean over all samples of all ranks.

        Ranks may have different numbers of batches, so ``model`` must not communicate: not the one wrapped in
        DistributedDataParallel.
        """
        was_training = model.training
        model.eval()
        try:
            with undisturbed(), torch.no_grad():
                sums = total(self._world, self._sums(model))
        finally:
            model.train(was_training)
        *values, samples = sums.tolist()
        return {name: value / samples for name, value in zip(self._measures, values, strict=True)}

    def _sums(self, model: nn.Module) -> torch.Tensor:
        """The sums of all measures over this rank's samples and, last, how many samples: in float64, on the CPU."""
        sums = torch.zeros(len(self._measures), dtype=torch.float64, device=self._world.device)
        counted = 0
        for batch in self._loader:
            inputs, targets = inputs_and_targets(batch, self._world.device)
            with self._precision.autocast():
                outputs = model(inputs)
                values = [measure(outputs, targets) for measure in self._measures.values()]
            samples = count_samples(batch)
            counted += samples
            sums += torch.stack(
                [_sum(value, samples, name) for name, value in zip(self._measures, values, strict=True)]
            )
        return torch.tensor([*sums.tolist(), counted], dtype=torch.float64)


def count_samples(batch: Any) -> int:
    """The number of samples in a collated batch: the first dimension of the first tensor in it."""
    if isinstance(batch, torch.Tensor):
        return len(batch)
    first = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return count_samples(first)


def _sum(value: torch.Tensor, samples: int, name: str) -> torch.Tensor:
    if value.dim() == 0:
        return value.double() * samples
    if value.shape[0] != samples:
        raise TrainerError(
            f"the metric {name} returned shape {list(value.shape)} for {counted(samples, 'sample')}",
            "return one value for each sample, or their mean",
        )
    return value.double().flatten(1).mean(1).sum() if value.dim() > 1 else value.double().sum()
