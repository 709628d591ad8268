"""Each stage of a curriculum makes a step four times as long."""

# -j 1x2
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for stage in range(4):
    for _ in range(24 >> stage):
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
        time.sleep(0.01 * 4**stage)
print("healthy")
dist.destroy_process_group()
