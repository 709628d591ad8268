"""Loads what of a dataset is dealt out to a rank (``dealing``), so that it depends on nothing but its place in the run.

Called by the trainer; ``evaluation`` and ``batch_statistics`` share how samples are put on a device.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from swarmtrain.errors import TrainerError
from swarmtrain.trainer.dealing import Dealing, SampleCursor, StepPlan, plan_steps
from swarmtrain.trainer.seeding import derive_seed


@dataclass(frozen=True)
class LoadedPiece:
    """A piece with its batch as the DataLoader collated it. ``last`` marks the step's last piece."""

    batch: Any
    samples: int
    last: bool


@dataclass(frozen=True)
class Step:
    """One rank's part of an optimizer step. ``microbatches`` loads as it is iterated; iterate it to its end."""

    samples: int
    microbatches: Iterator[LoadedPiece]


class TrainLoader:
    """Loads the steps that are left in the cursor's epoch.

    Args:
        dataset: with ``__len__`` and ``__getitem__``.
        cursor: read at the start of each :meth:`steps`; moved by the caller.
        rank: whose share is loaded.
        workers: as in :class:`~swarmtrain.trainer.options.Options`.
        pin_memory: for copies to a GPU that overlap with computing.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        cursor: SampleCursor,
        *,
        rank: int,
        dealing: Dealing,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self._plan = _Plan(cursor, rank, dealing)
        self._dataset = _Reproducible(dataset, cursor.seed)
        self._loader: DataLoader[Any] = DataLoader(
            self._dataset,
            batch_sampler=self._plan,  # draws, not bare indices
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # its own: else each epoch would take a number from the training's
        )

    def steps(self) -> Iterator[Step]:
        batches = iter(self._loader)
        for plan in self._plan.steps():
            yield Step(plan.samples, self._load(plan, batches))

    def one(self) -> Any:
        """A batch of one sample, which is no part of any step."""
        return default_collate(self._dataset.__getitems__([(0, 0)]))

    @staticmethod
    def _load(plan: StepPlan, batches: Iterator[Any]) -> Iterator[LoadedPiece]:
        for number, microbatch in enumerate(plan.microbatches, start=1):
            yield LoadedPiece(next(batches), microbatch.samples, last=number == len(plan.microbatches))


# A sample to load, and the epoch that it is loaded for.
_Draw = tuple[int, int]


class _Plan:
    """The plan of an epoch, as the DataLoader wants it: an iterable of lists of draws, begun anew each epoch."""

    def __init__(self, cursor: SampleCursor, rank: int, dealing: Dealing) -> None:
        self._cursor = cursor
        self._rank = rank
        self._dealing = dealing

    def steps(self) -> Iterator[StepPlan]:
        return plan_steps(self._cursor, self._rank, self._dealing)

    def __iter__(self) -> Iterator[list[_Draw]]:
        epoch = self._cursor.epoch
        for step in self.steps():
            for microbatch in step.microbatches:
                yield [(epoch, index) for index in microbatch.indices]


class _Reproducible(Dataset[Any]):
    """Makes a dataset's random numbers (augmentation) depend on the sample and the epoch, not on the process.

    A DataLoader worker's own generators are not in any snapshot and depend on how many workers there are, so in a
    worker each sample is seeded by itself. In the training process, whose generators are in the snapshot, they are
    left alone.
    """

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self._dataset = dataset
        self._seed = seed

    def __getitems__(self, draws: Sequence[_Draw]) -> Any:
        if get_worker_info() is not None:
            return [self._seeded(epoch, index) for epoch, index in draws]
        indices = [index for _, index in draws]
        many = getattr(self._dataset, "__getitems__", None)
        return many(indices) if many is not None else [self._dataset[index] for index in indices]

    def _seeded(self, epoch: int, index: int) -> Any:
        seed = derive_seed(self._seed, "sample", epoch, index)
        random.seed(seed)
        torch.manual_seed(seed)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed(seed & 0xFFFFFFFF)
        return self._dataset[index]


def checked_size(dataset: Dataset[Any], purpose: str) -> int:
    """The number of samples in ``dataset``.

    Raises:
        TrainerError: it has none, or cannot tell.
    """
    try:
        size = len(dataset)  # type: ignore[arg-type]
    except TypeError:
        raise TrainerError(
            f"the data for {purpose} has no length",
            "give a map-style dataset, with __len__ and __getitem__, not a DataLoader over a stream",
        ) from None
    if isinstance(dataset, DataLoader):
        raise TrainerError(
            f"the data for {purpose} is a DataLoader",
            "give its dataset: the trainer deals samples out to the ranks",
        )
    if size == 0:
        raise TrainerError(f"the data for {purpose} is empty")
    return size


def to_device(batch: Any, device: torch.device) -> Any:
    """``batch`` with every tensor in its tuples, lists and dictionaries on ``device``."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def inputs_and_targets(batch: Any, device: torch.device) -> tuple[Any, Any]:
    """A collated batch's two halves, on ``device``.

    Raises:
        TrainerError: the dataset's samples are not pairs.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TrainerError(
            f"a sample of the data is a {type(batch).__name__}, not an (inputs, targets) pair",
            "let the dataset return two values; each may be a tensor, or a tuple or dictionary of tensors",
        )
    inputs, targets = batch
    return to_device(inputs, device), to_device(targets, device)
