"""A DDP training with a checkpoint in each phase, which other nodes get or do not; share_copy.py starts it.

python share_train.py PHASES SECONDS SETTLE

In turns, rank 0 saves to `kept.pt`, which the job keeps on its node, and to `shared.pt`. Steps are made for SETTLE and
then for SECONDS, and what these took is printed. What is still being copied then is removed, and so is not copied on.
"""

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

phases, length, settle = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
dist.init_process_group("gloo")
torch.manual_seed(0)
layers = [part for _ in range(2) for part in (nn.Linear(512, 1024), nn.GELU(), nn.Linear(1024, 512))]
model = DistributedDataParallel(nn.Sequential(*layers, nn.Linear(512, 10)))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
counter = Path(f"/sys/class/net/{os.environ['GLOO_SOCKET_IFNAME'].lstrip('=')}/statistics/tx_bytes")


def train(seconds: float) -> tuple[int, float]:
    """Steps for at least so long, by rank 0's clock; how many, and the seconds."""
    began, steps, more = time.perf_counter(), 0, torch.ones(1)
    while more:
        loss = nn.functional.cross_entropy(model(torch.randn(256, 512)), torch.randint(10, (256,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        more[0] = time.perf_counter() < began + seconds
        dist.broadcast(more, 0)
    return steps, time.perf_counter() - began


train(3.0)
for phase in range(phases):
    name = ("kept", "shared")[phase % 2]
    path = Path(f"{name}.pt")
    if dist.get_rank() == 0:
        torch.save({"model": model.module.state_dict(), "optimizer": optimizer.state_dict()}, path)
    dist.barrier()
    train(settle)
    sent = int(counter.read_text())
    steps, seconds = train(length)
    if dist.get_rank() == 0:
        print("phase", name, steps, seconds, int(counter.read_text()) - sent, flush=True)
        path.unlink()
    dist.barrier()
    train(2.0)
dist.destroy_process_group()
