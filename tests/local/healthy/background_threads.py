"""One thread prefetches, another logs, and the main thread trains."""

# -j 1x2
import queue
import threading
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

batches = queue.Queue(4)
over = threading.Event()
losses = []


def prefetch():
    for _ in range(60):
        batches.put(torch.randn(16, 8))
    batches.put(None)


def log():
    while not over.wait(0.2):
        print(f"mean of {len(losses)} losses: {sum(losses[-10:]) / 10:.3f}", flush=True)


dist.init_process_group("gloo")
model = DistributedDataParallel(nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
threads = [threading.Thread(target=prefetch), threading.Thread(target=log)]
for thread in threads:
    thread.start()
while (batch := batches.get()) is not None:
    optimizer.zero_grad()
    loss = model(batch).square().mean()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    time.sleep(0.005)
over.set()
for thread in threads:
    thread.join()
print("healthy")
dist.destroy_process_group()
