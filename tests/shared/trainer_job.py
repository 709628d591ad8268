"""A small training that the trainer's tests run on every rank, with what a real one has: dropout, BatchNorm, AdamW,
a schedule of the learning rate."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from swarmtrain.trainer import Every, Options, Trainer, seed_everything
from swarmtrain.trainer.options import PrecisionName
from swarmtrain.wire.pulse import Pulse

OFTEN = Every(steps=3)
EACH_EPOCH = Every(epochs=1)


@dataclass(frozen=True)
class Job:
    """What a test varies. ``fail_at`` is (rank, step): that rank raises in that step."""

    steps: int | None = None
    epochs: int | None = None
    samples: int = 40
    batch_size: int = 8
    micro_batch: int | None = None
    snapshot: Every = OFTEN
    evaluate: Every = EACH_EPOCH
    precision: PrecisionName = "fp32"
    plain: bool = False  # without dropout and BatchNorm, whose numbers depend on the number of ranks
    workers: int = 0
    augment: bool = False
    drop_last: bool = False
    keep: int = 3
    resume: bool = True
    fail_at: tuple[int, int] | None = None
    drift_at: tuple[int, int] | None = None
    pause_at: tuple[int, int] | None = None  # that rank is asked to pause in that step
    memory: Every = field(default_factory=lambda: Every(seconds=5))
    steady: bool = True  # each step waits for the snapshot before it, so that tiny steps leave none out


class Noisy(Dataset[Any]):
    """Adds noise, drawn anew for each sample, to a dataset's inputs."""

    def __init__(self, dataset: TensorDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        inputs, target = self.dataset[index]
        noise = torch.from_numpy(numpy.random.randn(*inputs.shape)).float()
        return inputs + 0.1 * torch.randn(inputs.shape) + 0.1 * noise, target


def data(samples: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 12, generator=generator)
    return TensorDataset(inputs, (inputs[:, :4].sum(1) > 0).long() + (inputs[:, 4] > 1).long())


def written() -> None:
    """Waits until nothing is being written in the background."""
    for thread in threading.enumerate():
        if thread.name == "swarmtrain-snapshot":
            thread.join()


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return outputs.argmax(1) == targets


def train(job: Job) -> dict[str, Any]:
    """Runs the job and returns what a test compares."""
    seed_everything(7)
    middle = [] if job.plain else [nn.BatchNorm1d(16), nn.Dropout(0.2)]
    model = nn.Sequential(nn.Linear(12, 16), *middle, nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    train_data: Dataset[Any] = data(job.samples, seed=1)
    options = Options(
        batch_size=job.batch_size,
        micro_batch=job.micro_batch,
        precision=job.precision,
        clip_norm=1.0,
        workers=job.workers,
        drop_last=job.drop_last,
        snapshot=job.snapshot,
        evaluate=job.evaluate,
        keep=job.keep,
        memory=job.memory,
        resume=job.resume,
    )

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        here = (trainer.world.rank, trainer.step + 1)
        if model.training and here == job.pause_at:
            Pulse.map(Path(os.environ["SWARMTRAIN_PULSE"])).pause = 1
        if job.steady:
            written()
        if model.training and here == job.fail_at:
            raise ArithmeticError("planted")
        if model.training and here == job.drift_at:
            with torch.no_grad():
                next(model.parameters())[0, 0] += 1e-3
        return F.cross_entropy(outputs, targets)

    with Trainer(
        model,
        Noisy(cast(TensorDataset, train_data)) if job.augment else train_data,
        optimizer,
        loss=loss,
        eval_data=data(25, seed=2),
        metrics={"accuracy": accuracy},
        scheduler=scheduler,
        options=options,
    ) as trainer:
        metrics = trainer.fit(steps=job.steps, epochs=job.epochs)
        return {
            "weights": [tensor.clone() for tensor in model.state_dict().values()],
            "metrics": metrics,
            "step": trainer.step,
            "epoch": trainer.cursor.epoch,
            "lr": optimizer.param_groups[0]["lr"],
        }


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    """Whether two models are the same, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def close(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    """Whether two models are the same but for rounding."""
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(first, second, strict=True))


__all__ = ["Every", "Job", "close", "replace", "same", "train"]
