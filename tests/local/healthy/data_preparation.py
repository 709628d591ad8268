"""Rank 0 prepares the data before anything else; the others wait for it."""

# -j 1x2 : 3
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
shards = Path("shards")
if dist.get_rank() == 0:
    shards.mkdir(exist_ok=True)
    count = max(3, int(float(sys.argv[1])))
    for number in range(count):
        torch.save(torch.randn(1000, 16), shards / f"{number}.pt")
        time.sleep(float(sys.argv[1]) / count)
dist.barrier()
total = sum(torch.load(path).sum() for path in sorted(shards.iterdir()))
same = [torch.zeros(()) for _ in range(2)]
dist.all_gather(same, total)
assert same[0] == same[1]
print("healthy")
dist.destroy_process_group()
