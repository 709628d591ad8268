"""A plain DDP training of about 50 ms a step on a processor core; step_overhead.py starts it and reads its last line.

python step_train.py STEPS
"""

import json
import resource
import statistics
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

WARM_UP = 20
steps = int(sys.argv[1])
dist.init_process_group("gloo")
torch.manual_seed(0)
layers = [part for _ in range(4) for part in (nn.Linear(512, 2048), nn.GELU(), nn.Linear(2048, 512))]
model = DistributedDataParallel(nn.Sequential(*layers, nn.Linear(512, 10)))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
seconds = []
before = resource.getrusage(resource.RUSAGE_SELF)
for step in range(WARM_UP + steps):
    if step == WARM_UP:
        before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    loss = nn.functional.cross_entropy(model(torch.randn(16, 512)), torch.randint(10, (16,)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    seconds.append(time.perf_counter() - began)
    if step % 10 == 0 and dist.get_rank() == 0:
        print(f"step {step}, loss {loss.item():.4f}")
after = resource.getrusage(resource.RUSAGE_SELF)
told = {
    "wall": statistics.median(seconds[WARM_UP:]),
    "mean": statistics.mean(seconds[WARM_UP:]),
    "cpu": (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / steps,
    "sys": (after.ru_stime - before.ru_stime) / steps,
    "faults": (after.ru_minflt - before.ru_minflt) / steps,
    "preempted": (after.ru_nivcsw - before.ru_nivcsw) / steps,
    "switched": (after.ru_nvcsw - before.ru_nvcsw) / steps,
}
print(f"told by rank {dist.get_rank()}: {json.dumps(told)}", flush=True)
dist.destroy_process_group()
