"""Rank 0 has a process of its own evaluate, and the others wait."""

# -j 1x2 : 2
import subprocess
import sys

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
for _ in range(2):
    for _ in range(20):
        dist.all_reduce(torch.ones(1000))
    if dist.get_rank() == 0:
        words = f"import time; end = time.time() + {float(sys.argv[1])} / 2\nwhile time.time() < end: time.sleep(0.001)"
        done = subprocess.run([sys.executable, "-c", words], check=True, capture_output=True)
        assert done.returncode == 0
    dist.barrier()
print("healthy")
dist.destroy_process_group()
