"""Ranks with different numbers of batches, joined by torch's own Join."""

# -j 1x2
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
with Join([model]):
    for _ in range(20 + 40 * dist.get_rank()):
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
print("healthy")
dist.destroy_process_group()
