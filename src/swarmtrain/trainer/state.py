"""What a snapshot of a training holds, and how a training goes on from one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from swarmtrain.errors import TrainerError
from swarmtrain.trainer.dealing import SampleCursor
from swarmtrain.trainer.distributed import World, share_buffers, total
from swarmtrain.trainer.precision import Precision
from swarmtrain.trainer.seeding import derive_seed, random_state, restore_random_state, seed_everything
from swarmtrain.trainer.snapshots.writer import Content, Stateful


class TrainingState:
    """Everything that one step hands to the next.

    Attributes:
        step: optimizer steps made since the run began.
        rank_state: what differs from rank to rank, besides random numbers and the loss of the epoch.
    """

    def __init__(
        self,
        world: World,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        precision: Precision,
        cursor: SampleCursor,
        seed: int,
    ) -> None:
        self._world = world
        self._model = model
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._precision = precision
        self._cursor = cursor
        self._seed = seed
        self.step = 0
        # Of this epoch on this rank: the sum of the loss over its samples, where it is computed, and their number.
        self._epoch_loss = torch.zeros((), dtype=torch.float64, device=world.device)
        self._epoch_samples = 0
        self.rank_state: dict[str, Stateful] = {}
        seed_everything(derive_seed(seed, "rank", world.rank))

    def add_loss(self, loss_sum: torch.Tensor, samples: int) -> None:
        """Count the losses of a step: their sum over this rank's samples, float64."""
        self._epoch_loss += loss_sum
        self._epoch_samples += samples

    def take_epoch_loss(self) -> tuple[float, float]:
        """The sum of the epoch's losses and the number of samples, of all ranks; they begin anew."""
        loss, samples = total(self._world, torch.tensor(self._own_loss(), dtype=torch.float64)).tolist()
        self._set_loss(0.0, 0)
        return loss, samples

    def _own_loss(self) -> list[float]:
        return [float(self._epoch_loss), float(self._epoch_samples)]

    def _set_loss(self, loss: float, samples: float) -> None:
        self._epoch_loss.fill_(loss)
        self._epoch_samples = int(samples)

    def content(self) -> Content:
        """What a snapshot of this moment holds; all ranks together."""
        share_buffers(self._world, self._model)
        own = {
            "random": random_state(),
            "epoch_loss": self._own_loss(),
            "more": {name: holder.state_dict() for name, holder in self.rank_state.items()},
        }
        weights = (*self._model.parameters(), *self._model.buffers())
        return Content(self._shared, own, weights, [self._optimizer])

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what a snapshot held.

        Raises:
            TrainerError: it is of another model or optimizer, or of a script without the Trainer.
        """
        if state.get("by", "trainer") != "trainer":
            raise TrainerError(
                "the newest snapshot was written by a script without the Trainer",
                "choose another directory of snapshots",
            )
        try:
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise TrainerError(
                f"the snapshot does not fit this model or optimizer: {error}",
                "go back to the code that wrote it, or choose another directory of snapshots",
            ) from error
        if self._scheduler is not None and state["scheduler"]:
            self._scheduler.load_state_dict(state["scheduler"])
        self._precision.load_state_dict(state["scaler"])
        self._cursor.load_state_dict(state["cursor"])
        self.step = state["step"]
        self._load_ranks(state["ranks"])

    def _shared(self) -> dict[str, Any]:
        """What all ranks share."""
        return {
            "by": "trainer",
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict() if self._scheduler is not None else {},
            "scaler": self._precision.state_dict(),
            "cursor": self._cursor.state_dict(),
            "step": self.step,
        }

    def _load_ranks(self, ranks: list[dict[str, Any]]) -> None:
        if len(ranks) == self._world.size:
            own = ranks[self._world.rank]
            restore_random_state(own["random"])
            self._set_loss(*own["epoch_loss"])
            for name, holder in self.rank_state.items():
                if name in own.get("more", {}):
                    holder.load_state_dict(own["more"][name])
            return
        # Other ranks than then: their random numbers begin anew, the same ones each time this is done.
        seed_everything(derive_seed(self._seed, "rank", self._world.rank, "step", self.step))
        if self._world.leads:
            self._set_loss(*(sum(each) for each in zip(*(rank["epoch_loss"] for rank in ranks), strict=True)))
