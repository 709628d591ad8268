"""A small DDP training that says when its first optimizer step was done; started by the other benchmarks."""

import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)))
optimizer = torch.optim.AdamW(model.parameters())
for step in range(3):
    loss = nn.functional.cross_entropy(model(torch.randn(32, 64)), torch.randint(10, (32,)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step == 0:
        sys.stdout.write(f"\nfirst step of rank {dist.get_rank()} at {time.time():.3f}\n")
        sys.stdout.flush()
dist.destroy_process_group()
