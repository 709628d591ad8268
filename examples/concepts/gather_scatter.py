"""Scatter deals out pieces from one rank; gather collects one piece from each rank on one rank.

swarmtrain run --on local -j 2x1 gather_scatter.py
torchrun --nproc-per-node 2 gather_scatter.py
"""

import os

import torch
import torch.distributed as dist

if torch.cuda.is_available():
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank, world_size = dist.get_rank(), dist.get_world_size()

# Rank 0 deals out the numbers 0, 1, 2, ...: two of them to each rank.
numbers = torch.arange(2.0 * world_size, device=device)
piece = torch.empty(2, device=device)
dist.scatter(piece, list(numbers.chunk(world_size)) if rank == 0 else None, src=0)

# Each rank squares its piece, and rank 0 collects the results.
result = piece**2
results = [torch.empty(2, device=device) for _ in range(world_size)] if rank == 0 else None
dist.gather(result, results, dst=0)

print(f"rank {rank}: got {piece.tolist()}, gave {result.tolist()}")
if results is not None:
    print(f"rank 0: gathered {torch.cat(results).tolist()}")

dist.destroy_process_group()
