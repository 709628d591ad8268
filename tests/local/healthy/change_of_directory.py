"""Each run works in a directory of its own, as hydra has it."""

# -j 1x2
import datetime
import os
from pathlib import Path

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
where = [f"outputs/{datetime.datetime.now():%Y-%m-%d/%H-%M-%S}"]
dist.broadcast_object_list(where, src=0)
Path(where[0]).mkdir(parents=True, exist_ok=True)
os.chdir(where[0])
for _ in range(20):
    dist.all_reduce(torch.ones(10))
Path(f"log-{dist.get_rank()}.txt").write_text("done\n")
dist.barrier()
assert sorted(path.name for path in Path.cwd().iterdir()) == ["log-0.txt", "log-1.txt"]
print("healthy")
dist.destroy_process_group()
