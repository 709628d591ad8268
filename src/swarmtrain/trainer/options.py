"""What a person may set about a training, beyond the model, the data and the optimizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from swarmtrain.errors import TrainerError

PrecisionName = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Every:
    """How often something happens; every measure that is set counts, none means never."""

    epochs: int | None = None
    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise TrainerError(f"Every({name}={value}) is never: give a positive number, or leave it out")

    @property
    def never(self) -> bool:
        return self.epochs is None and self.steps is None and self.seconds is None

    def after_step(self, step: int) -> bool:
        """Whether it is due after ``step`` steps, by count of steps."""
        return self.steps is not None and step % self.steps == 0

    def after_epoch(self, epochs: int) -> bool:
        """Whether it is due after ``epochs`` whole epochs, by count of epochs."""
        return self.epochs is not None and epochs % self.epochs == 0


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of a training.

    Args:
        batch_size: samples of one optimizer step, over all ranks together. It stays the same at every world size.
        micro_batch: the most samples that one rank puts through the model at once. A rank whose share of the batch
            is larger accumulates gradients. None: the whole share at once.
        precision: of the forward and the backward pass; weights and optimizer stay in fp32.
        clip_norm: the largest norm that the gradient of a step may have; None leaves gradients as they are.
        scheduler_per: what the scheduler counts, steps or epochs.
        seed: from which the order of samples and every rank's random numbers are derived.
        shuffle: whether each epoch has an order of its own.
        drop_last: whether samples that are too few for a whole step at the end of an epoch are left out of it.
        workers: DataLoader processes of each rank; 0 loads in the training process.
        snapshot: when to take one. One is also taken at the end, unless this is never.
        memory: when to take one in the node's memory, where $SWARMTRAIN_MEMORY names a directory there: it costs less
            than one on disk and survives all but the loss of the machine's power. The newest two are kept.
        keep: how many snapshots each node keeps on disk.
        snapshots: this node's directory of snapshots; None: $SWARMTRAIN_SNAPSHOTS, else ./snapshots.
        resume: whether to go on from the newest snapshot there is.
        evaluate: when to evaluate, by epochs or steps, where there is data to evaluate on. The end is always evaluated.
        find_unused_parameters: for models that do not use every parameter in every step (see DistributedDataParallel).
        progress: whether rank 0 shows how the epoch gets on, on standard output: a bar on a terminal, a line every few
            seconds elsewhere. What else it says goes through the logger ``swarmtrain.trainer``.
        tensorboard: directory for TensorBoard's event files, written by rank 0; None writes none.
    """

    batch_size: int = 32
    micro_batch: int | None = None
    precision: PrecisionName = "fp32"
    clip_norm: float | None = None
    scheduler_per: Literal["step", "epoch"] = "step"
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = False
    workers: int = 0
    snapshot: Every = field(default_factory=lambda: Every(epochs=1))
    memory: Every = field(default_factory=lambda: Every(seconds=5))
    keep: int = 3
    snapshots: Path | str | None = None
    resume: bool = True
    evaluate: Every = field(default_factory=lambda: Every(epochs=1))
    find_unused_parameters: bool = False
    progress: bool = True
    tensorboard: Path | str | None = None

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("micro_batch", 1), ("keep", 1), ("workers", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise TrainerError(f"{name}={value} is too small: it must be at least {least}")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise TrainerError(f"clip_norm={self.clip_norm} would stop all learning: it must be positive")
        for name, allowed in (("precision", get_args(PrecisionName)), ("scheduler_per", ("step", "epoch"))):
            if getattr(self, name) not in allowed:
                raise TrainerError(
                    f"{name}={getattr(self, name)!r} is unknown: it is one of {', '.join(allowed)}"
                )
        if self.memory.epochs is not None:
            raise TrainerError("memory=Every(epochs=...) is not known: use steps or seconds")
        if self.evaluate.seconds is not None:
            raise TrainerError("evaluate=Every(seconds=...) would differ between runs: use epochs or steps")
