"""A plain DDP training of some 50 ms a step on a processor core, made in turns; step_overhead.py starts and leads it.

Each rank makes as many steps as a line of the FIFO `go-RANK` in $STEP_TURNS says, and answers with a line of
`told-RANK`: the seconds that one of them took, and the seconds of processor time. A zero ends it.
"""

import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

turns = Path(os.environ["STEP_TURNS"])
dist.init_process_group("gloo")
torch.manual_seed(0)
layers = [part for _ in range(4) for part in (nn.Linear(512, 2048), nn.GELU(), nn.Linear(2048, 512))]
model = DistributedDataParallel(nn.Sequential(*layers, nn.Linear(512, 10)))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)


def train(steps: int) -> None:
    for step in range(steps):
        loss = nn.functional.cross_entropy(model(torch.randn(16, 512)), torch.randint(10, (16,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0 and dist.get_rank() == 0:
            print(f"step {step}, loss {loss.item():.4f}")


train(20)
rank = dist.get_rank()
with (turns / f"go-{rank}").open() as asked, (turns / f"told-{rank}").open("w", buffering=1) as told:
    while steps := int(asked.readline() or 0):
        wall, busy = time.perf_counter(), time.process_time()
        train(steps)
        print((time.perf_counter() - wall) / steps, (time.process_time() - busy) / steps, file=told)
dist.destroy_process_group()
