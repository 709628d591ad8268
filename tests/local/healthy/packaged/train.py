"""A module of a package, with relative imports and arguments of its own."""

# -j 1x2 -m : --epochs 3
import argparse

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from .models import Small

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, required=True)
epochs = parser.parse_args().epochs
dist.init_process_group("gloo")
model = DistributedDataParallel(Small())
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(10 * epochs):
    optimizer.zero_grad()
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
print("healthy")
dist.destroy_process_group()
