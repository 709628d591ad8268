"""Rank 0 decides when it is enough, and tells the others."""

# -j 1x2
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
best, patience = float("inf"), 5
while True:
    optimizer.zero_grad()
    loss = model(torch.randn(64, 8)).square().mean()
    loss.backward()
    optimizer.step()
    if loss.item() < best - 0.01:
        best, patience = loss.item(), 5
    else:
        patience -= 1
    over = torch.tensor(int(patience < 0))
    dist.broadcast(over, 0)
    if over:
        break
print("healthy")
dist.destroy_process_group()
