"""All-reduce: every rank gives a tensor, every rank gets their sum. DDP averages gradients with it.

swarmtrain run --on local -j 2x1 all_reduce.py
torchrun --nproc-per-node 2 all_reduce.py
"""

import os

import torch
import torch.distributed as dist

if torch.cuda.is_available():
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank, world_size = dist.get_rank(), dist.get_world_size()

gradient = torch.tensor([1.0, 10.0], device=device) * (rank + 1)  # each rank has seen other samples
before = gradient.tolist()
dist.all_reduce(gradient, op=dist.ReduceOp.SUM)
print(f"rank {rank}: had {before}, sum {gradient.tolist()}, mean {(gradient / world_size).tolist()}")

dist.destroy_process_group()
