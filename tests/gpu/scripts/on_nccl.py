"""Two ranks over NCCL, of which one goes wrong at step 5 in the way that the argument names.

They have one GPU, which NCCL refuses. So they tell it that they are on two machines, and it takes sockets.
"""

import os
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

HOW = sys.argv[1]
RANK = int(os.environ["RANK"])
DEVICE = torch.device("cuda", 0)


def stuck():
    if RANK == 1:
        time.sleep(600)


def shape():
    dist.all_reduce(torch.ones(4 if RANK == 1 else 1 << 24, device=DEVICE))
    torch.cuda.synchronize()


def other():
    """NCCL 2.28 lets both come through, and what follows meets what it should not, until the end."""
    if RANK == 1:
        dist.broadcast(torch.ones(4, device=DEVICE), 1)
    else:
        dist.all_reduce(torch.ones(1 << 24, device=DEVICE))
    torch.cuda.synchronize()


def exception():
    if RANK == 1:
        raise ValueError("shard 7 is damaged")


if HOW != "duplicate":
    os.environ["NCCL_HOSTID"] = f"machine-{RANK}"
dist.init_process_group("nccl")
torch.cuda.set_device(DEVICE)
model = DistributedDataParallel(nn.Linear(256, 256).to(DEVICE))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(400):
    if step == 5 and HOW != "duplicate":
        globals()[HOW]()
    optimizer.zero_grad()
    loss = model(torch.ones(32, 256, device=DEVICE)).square().mean()
    loss.backward()
    optimizer.step()
    print(f"step {step} on {DEVICE}, loss {loss.item():.3f}", flush=True)
    time.sleep(0.02)
dist.destroy_process_group()
