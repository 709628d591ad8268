"""Models whose layers look at all samples of a batch at once, and steps that leave a rank too few for that.

BatchNorm in training needs two values for each channel: a step that leaves a rank one sample cannot be made. Called by
the trainer: what cannot work is refused before the first step.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from swarmtrain.errors import TrainerError
from swarmtrain.trainer.data import TrainLoader, inputs_and_targets
from swarmtrain.trainer.dealing import Dealing, SampleCursor, step_sizes
from swarmtrain.trainer.distributed import World
from swarmtrain.trainer.precision import Precision
from swarmtrain.trainer.seeding import undisturbed
from swarmtrain.wire.plural import counted

_TOO_FEW = "more than 1 value per channel"  # torch.nn.functional.batch_norm's words
_WAYS_OUT = "set drop_last=True, or another batch_size"


def of_a_rank(model: nn.Module) -> bool:
    """Whether the model normalises over the samples that it is given at once."""
    return any(isinstance(each, _BatchNorm) and not _of_all(each) for each in model.modules())


def of_all_ranks(model: nn.Module) -> bool:
    """Whether it normalises over those that all ranks have at the time."""
    return any(_of_all(each) for each in model.modules())


def _of_all(module: nn.Module) -> bool:
    return isinstance(module, nn.SyncBatchNorm)


def least_share(model: nn.Module, batch_size: int, world_size: int) -> int:
    """How many samples a rank has of a step, unless it has none."""
    return 2 if of_a_rank(model) or batch_size // world_size > 1 else 1


def refuse_uneven_steps(model: nn.Module, cursor: SampleCursor, dealing: Dealing) -> None:
    """What ranks do together in a forward pass needs as many passes on each, and takes stand-ins for samples.

    Raises:
        TrainerError: some step has other numbers of them.
    """
    if dealing.world_size == 1 or not of_all_ranks(model):
        return
    for samples in sorted(step_sizes(cursor, dealing.batch_size)):
        if not dealing.is_even(samples):
            raise TrainerError(
                "SyncBatchNorm needs the same pieces on all ranks, and a step of "
                f"{counted(samples, 'sample')} does not give {dealing.world_size} ranks the same",
                _WAYS_OUT,
            )


def refuse_lone_samples(
    model: nn.Module,
    cursor: SampleCursor,
    dealing: Dealing,
    *,
    loader: TrainLoader,
    world: World,
    precision: Precision,
) -> None:
    """Try whether the model can be trained on one sample, where some step will ask for that.

    Raises:
        TrainerError: it cannot.
    """
    lone = [size for size in step_sizes(cursor, dealing.batch_size) if dealing.smallest(size) == 1]
    if not lone or not of_a_rank(model):
        return
    inputs, _ = inputs_and_targets(loader.one(), world.device)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with undisturbed(), torch.no_grad(), precision.autocast():
            model(inputs)
    except ValueError as error:
        if _TOO_FEW not in str(error):
            raise
        ways = _WAYS_OUT if min(lone) == 1 else "set micro_batch to 3 or more, or leave it out"
        raise TrainerError(
            "BatchNorm cannot be trained on one sample, and a step of "
            f"{counted(min(lone), 'sample')} would ask for that",
            ways,
        ) from error
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
