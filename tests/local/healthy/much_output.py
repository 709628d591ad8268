"""A great many lines, on both streams, some of them long."""

# -j 1x2
import sys

import torch.distributed as dist

dist.init_process_group("gloo")
for number in range(20_000):
    print(f"line {number} of rank {dist.get_rank()}")
    if number % 1000 == 0:
        print("x" * 100_000, file=sys.stderr)
dist.barrier()
print("healthy")
dist.destroy_process_group()
