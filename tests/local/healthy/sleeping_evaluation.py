"""Rank 0 waits for somebody else's evaluation and does nothing itself; the others wait in a barrier."""

# -j 1x2 : 3
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(60):
    optimizer.zero_grad()
    model(torch.randn(16, 8)).square().mean().backward()
    optimizer.step()
if dist.get_rank() == 0:
    time.sleep(float(sys.argv[1]))
dist.barrier()
print("healthy")
dist.destroy_process_group()
