"""The process group is never destroyed; sys.exit, atexit and an open file end the script."""

# -j 1x2
import atexit
import os
import sys

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
log = open(f"log-{os.environ['RANK']}.txt", "w")  # noqa: SIM115 - left open on purpose
atexit.register(lambda: print("healthy"))
for step in range(20):
    dist.all_reduce(torch.ones(10))
    log.write(f"{step}\n")
sys.exit(0)
