"""Rank 0 evaluates for a good while, and the others wait in a barrier."""

# -j 1x2 : 3
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

seconds = float(sys.argv[1])
dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _epoch in range(2):
    for _ in range(40):
        optimizer.zero_grad()
        model(torch.randn(16, 8)).square().mean().backward()
        optimizer.step()
    if dist.get_rank() == 0:
        end, correct = time.time() + seconds / 2, 0
        while time.time() < end:
            with torch.no_grad():
                correct += int((model.module(torch.randn(64, 8)) > 0).sum())
            time.sleep(0.01)
    dist.barrier()
print("healthy")
dist.destroy_process_group()
