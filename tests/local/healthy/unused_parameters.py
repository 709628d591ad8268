"""Layers that take no part, some frozen, some never reached."""

# -j 1x2
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.frozen, self.used, self.never = nn.Linear(8, 8), nn.Linear(8, 1), nn.Linear(8, 1)
        self.frozen.requires_grad_(False)

    def forward(self, inputs):
        return self.used(self.frozen(inputs))


dist.init_process_group("gloo")
model = DistributedDataParallel(Net(), find_unused_parameters=True)
optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.01)
for _ in range(40):
    optimizer.zero_grad()
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
print("healthy")
dist.destroy_process_group()
