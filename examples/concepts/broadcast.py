"""Broadcast: one rank's tensor becomes everybody's. DDP begins with it, so that all ranks start with equal weights.

swarmtrain run --on local -j 2x1 broadcast.py
torchrun --nproc-per-node 2 broadcast.py
"""

import os

import torch
import torch.distributed as dist

if torch.cuda.is_available():
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank = dist.get_rank()

weights = torch.full((3,), float(rank), device=device)
before = weights.tolist()
dist.broadcast(weights, src=0)
print(f"rank {rank}: had {before}, now {weights.tolist()}")

dist.destroy_process_group()
