"""Rank 0 writes a checkpoint that takes the disk some time, twice, and the others wait."""

# -j 1x2 : 40
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

megabytes = int(sys.argv[1])
dist.init_process_group("gloo")
for number in range(2):
    dist.all_reduce(torch.ones(1))
    if dist.get_rank() == 0:
        aside = Path("checkpoint.new")
        with aside.open("wb") as file:
            torch.save({"weights": torch.randn(megabytes, 1 << 18), "epoch": number}, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace("checkpoint.pt")
    dist.barrier()
print("healthy")
dist.destroy_process_group()
