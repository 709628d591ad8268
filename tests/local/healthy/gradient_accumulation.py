"""Gradients of several passes for one step, with no_sync between."""

# -j 1x2
import contextlib

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for pass_number in range(120):
    last = pass_number % 8 == 7
    with contextlib.nullcontext() if last else model.no_sync():
        (model(torch.randn(4, 8)).square().mean() / 8).backward()
    if last:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
print("healthy")
dist.destroy_process_group()
