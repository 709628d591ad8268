"""Which rank trains on which sample, and when.

One cursor for the whole run says how far the epoch has come: ``consumed`` samples of an order that seed and epoch
decide. Each step takes the next ``batch_size`` samples of that order and deals them out to today's ranks. Nothing
else is needed to go on exactly where a run stopped, at any world size: no sample twice, none left out.

The shares of a step may differ by one sample, and in the last step of an epoch some ranks may have none: rather none
than a single one, where a full step never leaves a rank so few. A rank puts its share through the model in one piece or
several, each of which carries its count, by which the trainer weights its gradient; a rank without samples runs a
stand-in of weight zero, so that it still takes part in the gradients' all-reduce.

Called by ``data``, which loads what is dealt, and ``batch_statistics``, which asks what would be.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from swarmtrain.errors import TrainerError
from swarmtrain.trainer.seeding import derive_seed
from swarmtrain.wire.plural import counted


@dataclass
class SampleCursor:
    """How far a run has come in its data.

    Args:
        size: samples in the dataset.
        seed: from which, with the epoch, the order of an epoch is derived.
        shuffle: False keeps the dataset's own order.
        epoch: the current epoch, from 0.
        consumed: samples of this epoch that all ranks together have trained on.
        least: samples that a step must have: fewer at the end of an epoch are left out.
    """

    size: int
    seed: int = 0
    shuffle: bool = field(default=True, kw_only=True)
    epoch: int = 0
    consumed: int = 0
    least: int = 1

    def order(self) -> torch.Tensor:
        """The indices of this epoch, in order: shape ``[size]``, int64."""
        if not self.shuffle:
            return torch.arange(self.size)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "epoch", self.epoch))
        return torch.randperm(self.size, generator=generator)

    @property
    def at_end(self) -> bool:
        return self.size - self.consumed < self.least

    def advance(self, samples: int) -> None:
        self.consumed += samples
        assert self.consumed <= self.size, f"{self.consumed} of {self.size} samples consumed"

    def next_epoch(self) -> None:
        self.epoch += 1
        self.consumed = 0

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to the place that ``state`` names.

        Raises:
            TrainerError: in the middle of an epoch, where the order is no longer the one that was begun.
        """
        if state["consumed"]:
            for name in ("size", "seed", "shuffle"):
                if state[name] != getattr(self, name):
                    raise TrainerError(
                        f"the snapshot stands {counted(state['consumed'], 'sample')} into an epoch of data with {name} "
                        f"{state[name]}, and now {name} is {getattr(self, name)}",
                        "train on the same data, or on another directory of snapshots",
                    )
        self.epoch = state["epoch"]
        self.consumed = state["consumed"]


@dataclass(frozen=True)
class Microbatch:
    """Samples that one rank puts through the model at once. ``samples`` counts them; 0 marks a stand-in."""

    indices: list[int]
    samples: int


@dataclass(frozen=True)
class Dealing:
    """How the samples of a step are dealt out.

    Args:
        world_size: to how many ranks.
        batch_size: samples of a step; the last one of an epoch may have fewer.
        micro_batch: the most that a rank puts through the model at once; None: its whole share.
        least: a rank has so many samples of a step or none, if the step has so many.
    """

    world_size: int
    batch_size: int
    micro_batch: int | None = None
    least: int = 1

    def takers(self, samples: int) -> int:
        """How many ranks have a share in a step of so many samples: the first ones."""
        return max(1, min(self.world_size, samples // self.least))

    def microbatches(self, share: int) -> int:
        """In how many pieces, as even as can be, a rank puts its share through."""
        return -(-share // (self.micro_batch or share))

    def deal(self, batch: torch.Tensor, rank: int) -> list[Microbatch]:
        """A rank's pieces of a step."""
        takers = self.takers(len(batch))
        if rank >= takers:
            return [Microbatch(batch[: self.least].tolist(), 0)]
        share = batch[rank::takers].tolist()
        count = self.microbatches(len(share))
        ends = [len(share) * number // count for number in range(count + 1)]
        return [Microbatch(share[i:j], j - i) for i, j in itertools.pairwise(ends)]

    def smallest(self, samples: int) -> int:
        """The samples of the smallest piece that some rank has in a step of so many."""
        share = samples // self.takers(samples)
        return min(each // self.microbatches(each) for each in {share, -(-samples // self.takers(samples))})

    def is_even(self, samples: int) -> bool:
        """Whether in a step of so many samples all ranks put the same number of pieces through, and none a stand-in."""
        takers = self.takers(samples)
        counts = {self.microbatches(samples // takers), self.microbatches(-(-samples // takers))}
        return takers == self.world_size and len(counts) == 1


@dataclass(frozen=True)
class StepPlan:
    """One rank's part of an optimizer step. ``samples`` counts those of all ranks."""

    samples: int
    microbatches: list[Microbatch]


def goal_of(cursor: SampleCursor, step: int, epochs: int | None, steps: int | None, batch_size: int) -> int:
    """The step at which a training ends that has come to ``step``: after so many epochs or steps in all."""

    def steps_of(samples: int) -> int:
        whole, rest = divmod(samples, batch_size)
        return whole + (rest >= cursor.least)

    goals = [] if steps is None else [steps]
    if epochs is not None:
        later = epochs - cursor.epoch - 1
        left = steps_of(cursor.size - cursor.consumed) + later * steps_of(cursor.size) if later >= 0 else 0
        goals.append(step + left)
    return max(step, min(goals))


def plan_steps(cursor: SampleCursor, rank: int, dealing: Dealing) -> Iterator[StepPlan]:
    """The steps that are left in the cursor's epoch, as ``rank`` sees them."""
    order = cursor.order()
    for start in range(cursor.consumed, cursor.size - cursor.least + 1, dealing.batch_size):
        batch = order[start : start + dealing.batch_size]
        yield StepPlan(len(batch), dealing.deal(batch, rank))


def step_sizes(cursor: SampleCursor, batch_size: int) -> set[int]:
    """How many samples the steps have, of this epoch's rest and of whole epochs."""
    sizes = set()
    for left in (cursor.size - cursor.consumed, cursor.size):
        full, rest = divmod(left, batch_size)
        sizes |= {batch_size} if full else set()
        sizes |= {rest} if rest >= cursor.least else set()
    return sizes
