"""A compiled model, compiled again when the shapes change."""

# -j 1x2
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
model = DistributedDataParallel(torch.compile(net, backend="eager"))
optimizer = torch.optim.Adam(model.parameters())
for step in range(30):
    optimizer.zero_grad()
    model(torch.randn(4 if step < 15 else 9, 8)).square().mean().backward()
    optimizer.step()
print("healthy")
dist.destroy_process_group()
