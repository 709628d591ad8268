"""Every rank evaluates its own part of the data, which is not the same size, and the results are summed."""

# -j 1x2
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Sequential(nn.Linear(8, 8), nn.Dropout(), nn.Linear(8, 1)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _epoch in range(3):
    model.train()
    for _ in range(20):
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
    model.eval()
    total = torch.zeros(())
    with torch.no_grad():
        for _ in range(10 + 40 * dist.get_rank()):
            total += model(torch.randn(16, 8)).square().sum()
            time.sleep(0.005)
    dist.all_reduce(total)
print("healthy")
dist.destroy_process_group()
