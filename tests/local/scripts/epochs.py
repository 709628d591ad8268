"""Trains as the tutorial of DistributedDataParallel does: rank 0 alone saves, and each rank loads what it finds.

argv[1]: seconds of a step, argv[2]: sgd or adam, which counts its own steps, argv[3]: a file at which all ranks end.
"""

import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

pause, how, stop = float(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
dist.init_process_group("gloo")
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[how](model.parameters(), lr=0.01)
start = 0
if Path("snapshot.pt").exists():
    saved = torch.load("snapshot.pt")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    start = saved["epoch"] if how == "sgd" else 0
data = TensorDataset(torch.randn(16, 4), torch.randn(16, 1))
sampler = DistributedSampler(data)
ddp = DistributedDataParallel(model)
for epoch in range(start, 10_000):
    sampler.set_epoch(epoch)
    for x, y in DataLoader(data, batch_size=4, sampler=sampler):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(ddp(x), y).backward()
        optimizer.step()
        time.sleep(pause)
    if dist.get_rank() == 0:
        torch.save(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1},
            "snapshot.pt",
        )
    print("epoch", epoch, flush=True)
    ends = torch.tensor(float(stop.exists()))
    dist.all_reduce(ends)
    if ends:
        break
