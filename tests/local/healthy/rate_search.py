"""Rates are tried one after the other, each with a model of its own, and a rest between."""

# -j 1x2 : 2
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
found = {}
for rate in (0.1, 0.03, 0.01, 0.003):
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(25):
        optimizer.zero_grad()
        loss = model(torch.randn(16, 8)).square().mean()
        loss.backward()
        optimizer.step()
    dist.all_reduce(found.setdefault(rate, loss.detach()))
    time.sleep(float(sys.argv[1]) / 4)
assert min(found, key=found.get) in found
print("healthy")
dist.destroy_process_group()
