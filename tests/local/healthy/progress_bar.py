"""A bar that is drawn anew in its line."""

# -j 1x2
import sys
import time

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
for step in range(60):
    dist.all_reduce(torch.ones(10))
    if dist.get_rank() == 0:
        sys.stderr.write(f"\r{'#' * (step // 2):30}| {step}/60 [00:{step // 20:02}]")
        sys.stderr.flush()
    time.sleep(0.02)
sys.stderr.write("\n")
print("healthy")
dist.destroy_process_group()
