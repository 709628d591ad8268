"""A small training that writes down when each rank has made each step; started by recover_lab.py and recover_local.py.

    recover_train.py trainer    a loop of swarmtrain's Trainer
    recover_train.py plain      a DDP loop as a careful person writes it by hand, for torchrun

Both train the same model and take a snapshot about once a second. `STAMPS` names a directory. After each optimizer step
the line ``time attempt rank world step pid`` is appended to the file ``steps`` there; the attempt is a number that the
ranks of one process group share. A rank that finds a file ``hang`` there removes it, and sleeps.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

STAMPS = Path(os.environ["STAMPS"])
WORK = 0.04  # seconds of a step in which it does nothing, so that three ranks do not fight for the processor
FOREVER = 10**9
EVERY = 20  # steps between two snapshots of the plain loop


def model_and_data() -> tuple[nn.Module, TensorDataset]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    inputs = torch.randn(4800, 64)
    return model, TensorDataset(inputs, inputs[:, :10].argmax(1))


def hang_here() -> None:
    time.sleep(FOREVER)


def loss_of(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    time.sleep(WORK)
    if (STAMPS / "hang").exists():
        (STAMPS / "hang").unlink()
        hang_here()
    return nn.functional.cross_entropy(outputs, targets)


class Stamps:
    """The file of steps, once the process group is there."""

    def __init__(self) -> None:
        number = torch.tensor([time.time_ns()])
        dist.broadcast(number, 0)
        self._file = os.open(STAMPS / "steps", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self._words = f"{number.item()} {dist.get_rank()} {dist.get_world_size()}"

    def made(self, step: int) -> None:
        os.write(self._file, f"{time.time():.4f} {self._words} {step} {os.getpid()}\n".encode())


def with_trainer() -> None:
    from swarmtrain.trainer import Every, Options, Trainer

    model, data = model_and_data()
    optimizer = torch.optim.AdamW(model.parameters())
    options = Options(batch_size=96, snapshot=Every(seconds=1))
    with Trainer(model, data, optimizer, loss=loss_of, options=options) as trainer:
        stamps = Stamps()
        optimizer.register_step_post_hook(lambda *_: stamps.made(trainer.step + 1))
        trainer.fit(steps=FOREVER)


def by_hand() -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    module, data = model_and_data()
    model = DistributedDataParallel(module)
    optimizer = torch.optim.AdamW(model.parameters())
    path = STAMPS / f"snapshot-{os.environ.get('GROUP_RANK', rank)}.pt"
    first = resume(path, model, optimizer)
    inputs, targets = data.tensors
    share = 96 // world
    stamps = Stamps()
    for step in range(first + 1, FOREVER):
        begin = (step * 96 + rank * share) % len(inputs)
        loss = loss_of(model(inputs[begin : begin + share]), targets[begin : begin + share])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stamps.made(step)
        if step % EVERY == 0 and os.environ["LOCAL_RANK"] == "0":
            aside = path.with_suffix(".tmp")
            state = {"step": step, "model": model.module.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, aside)
            aside.replace(path)


def resume(path: Path, model: DistributedDataParallel, optimizer: torch.optim.Optimizer) -> int:
    """Every node has a snapshot of its own: all go on from the newest one, which its rank hands round."""
    state = torch.load(path) if path.exists() else {"step": 0}
    held: list[int] = [0] * dist.get_world_size()
    dist.all_gather_object(held, state["step"])
    if not max(held):
        return 0
    newest = [state]
    dist.broadcast_object_list(newest, held.index(max(held)))
    model.module.load_state_dict(newest[0]["model"])
    optimizer.load_state_dict(newest[0]["optimizer"])
    return max(held)


if __name__ == "__main__":
    with_trainer() if sys.argv[1] == "trainer" else by_hand()
