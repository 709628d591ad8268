"""All ranks rest between epochs: a quota, a hot machine, the price of electricity."""

# -j 1x2 : 2
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _epoch in range(2):
    for _ in range(60):
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
        time.sleep(0.005)
    time.sleep(float(sys.argv[1]) / 2)
print("healthy")
dist.destroy_process_group()
