"""The first step takes far longer than the ones that follow."""

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
for step in range(50):
    if step == 0:
        time.sleep(float(sys.argv[1]))
    optimizer.zero_grad()
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
print("healthy")
dist.destroy_process_group()
