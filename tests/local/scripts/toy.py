"""A step or none, and an end: the process group goes before the model does, as in the DDP tutorial."""

import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def train():
    dist.init_process_group("gloo")
    model = DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(10, 10), torch.nn.Linear(10, 5)))
    if "step" in sys.argv:
        model(torch.randn(20, 10)).sum().backward()
    if "destroy" in sys.argv:
        dist.destroy_process_group()
    return model


if "global" in sys.argv:
    model = train()
else:
    train()
print("last line")
