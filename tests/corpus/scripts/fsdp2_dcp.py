"""FSDP2 with torch.distributed.checkpoint in the manner of torchtitan: each rank writes its shard, rank 0 the metadata.

Rank 0 removes what is old. A checkpoint counts that has its metadata.
"""

import os
import re
import shutil

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from common import BATCH, EPOCHS, Text, TinyGPT, loss_of, report, saved
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.stateful import Stateful
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

FOLDER = "checkpoint"


class State(Stateful):
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer

    def state_dict(self):
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def load_state_dict(self, state):
        set_state_dict(
            self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
        )


def complete():
    """The steps of the checkpoints that are there, in order."""
    names = os.listdir(FOLDER) if os.path.isdir(FOLDER) else []
    found = [re.fullmatch(r"step-(\d+)", name) for name in names]
    return sorted(int(match[1]) for match in found if match and is_complete(match[0]))


def is_complete(name):
    return os.path.isfile(os.path.join(FOLDER, name, ".metadata"))


def main():
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = TinyGPT()
    fully_shard(model.block)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    data = Text()
    loader = DataLoader(data, BATCH, sampler=DistributedSampler(data))
    state, step = {"app": State(model, optimizer)}, 0
    if there := complete():
        step = there[-1]
        dcp.load(state, checkpoint_id=f"{FOLDER}/step-{step}")
    first, losses = step, []
    while step < EPOCHS * len(loader):
        loader.sampler.set_epoch(step // len(loader))
        for tokens, targets in loader:
            loss = loss_of(model(tokens), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            step += 1
        dcp.save(state, checkpoint_id=f"{FOLDER}/step-{step}")
        saved(step)
        if dist.get_rank() == 0:
            for old in complete()[:-3]:
                shutil.rmtree(f"{FOLDER}/step-{old}", ignore_errors=True)
    report(first, losses, [parameter.full_tensor() for parameter in model.parameters()])
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
