"""Failures that only a GPU has: `failing.py memory` or `failing.py assert`, at the third step of rank 0."""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
device = torch.device("cuda", 0)
torch.cuda.set_device(device)
model = DistributedDataParallel(nn.Embedding(10, 4).to(device))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
kept = []
for step in range(6):
    index = torch.zeros(8, dtype=torch.long, device=device)
    if step == 2 and dist.get_rank() == 0:
        if sys.argv[1] == "memory":
            while True:
                kept.append(torch.empty(1 << 30, dtype=torch.uint8, device=device))
        index += 1000
    optimizer.zero_grad()
    model(index).sum().backward()
    optimizer.step()
    print(f"step {step}", flush=True)
    torch.cuda.synchronize()
dist.destroy_process_group()
