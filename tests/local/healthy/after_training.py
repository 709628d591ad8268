"""After the last step each rank does something else for a while: a table, an export, a report."""

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
for _ in range(60):
    optimizer.zero_grad()
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
rank = dist.get_rank()
dist.destroy_process_group()
time.sleep(float(sys.argv[1]) * (1 - rank / 2))
print("healthy")
